"""The live engine. Pure: no await, clock, randomness, socket or SQL; so every race is a plain unit test."""
