"""The HTML report: `collect` reads parts, `draw` makes small pictures, `page` puts both into one self-contained file."""
