"""One request: addresses, names, connections, pauses."""
