"""HTTP: one file per surface."""
