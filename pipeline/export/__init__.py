"""Finished parts in, a dataset that can be published out. Start reading at release.py."""
