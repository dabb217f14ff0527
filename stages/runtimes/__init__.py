"""What executes an artifact; a file here is a runtime."""
