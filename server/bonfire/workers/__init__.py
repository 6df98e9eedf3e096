"""Several processes that serve as one: a supervisor, and what it hands to its workers."""
