"""What the search knows and does: costs, losses, the problem, the loop."""
