"""What sites allow: robots.txt, opt-outs, TDM reservations."""
