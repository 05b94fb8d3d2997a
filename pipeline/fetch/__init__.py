"""Getting bytes over the network."""
