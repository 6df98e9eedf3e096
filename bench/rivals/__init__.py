"""The servers that a developer would write by hand: what bonfire is measured beside."""
