"""Pages, sitemaps and open collections -> picture URLs."""
