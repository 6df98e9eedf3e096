"""Who asks, and what they may: the gate that every read and write passes."""
