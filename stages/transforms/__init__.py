"""The one change a transform makes at a site; a file here is a transform."""
