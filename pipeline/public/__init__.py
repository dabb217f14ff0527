"""What `import paredown` offers: the calls, what they return, and the names for plugin authors."""
