"""Photos and videos -> people: crops, the network, tracks, smoothing."""
