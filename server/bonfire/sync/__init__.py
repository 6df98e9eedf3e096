"""The shell around the live engine: commits in, bytes out."""
