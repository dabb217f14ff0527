"""What stages leave for each other: one file per product."""
