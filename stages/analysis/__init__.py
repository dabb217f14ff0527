"""The original before a search: traced, ranked, calibrated; and the network that a plan cuts out of it."""
