"""Synthetic patients for development and demonstrations: believable charts of people who do not exist."""
