"""The forms that a gate's outcome is written in."""
