"""Whether a finished artifact holds here what its manifest promises."""
