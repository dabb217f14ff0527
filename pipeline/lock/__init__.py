"""What a run resolved to, kept beside the recipe: written, compared, and followed again."""
