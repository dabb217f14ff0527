"""The network, its data and its graph."""
