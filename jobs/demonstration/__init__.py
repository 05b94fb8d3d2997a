"""The pictures and the page of the demo."""
