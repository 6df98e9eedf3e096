"""What the official definitions say about R4, in tables."""
