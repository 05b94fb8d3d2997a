"""The version of the package, for whatever tells it: `handface --version`, the User-Agent of a crawl."""

__version__ = "0.2.0"
