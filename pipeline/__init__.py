"""What a person calls: recipes, the command line, the ordered run, its report."""
