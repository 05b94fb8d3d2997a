"""Lists of inputs, streamed: folders, URL lists, tars, videos."""
