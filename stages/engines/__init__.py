"""What gives int8 its scales; a file here is an engine."""
