"""Any sample of a data set by its row, read without the ones before it."""
