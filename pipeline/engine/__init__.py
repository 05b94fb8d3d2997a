"""Runs any list of stages over work units, in this process or on Ray, and knows none of them."""
