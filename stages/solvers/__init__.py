"""Ways to choose a plan; a file here is a solver."""
