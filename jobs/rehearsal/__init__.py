"""The pieces of `handface rehearse`: a small web, a cluster on this machine, and the readers that a dataset must please."""
