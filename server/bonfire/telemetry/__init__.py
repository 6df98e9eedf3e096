"""How a node is seen from outside: what is counted, traced and logged, with nothing of a patient's in it."""
