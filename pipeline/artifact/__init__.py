"""What an artifact says of itself, and who signed it."""
