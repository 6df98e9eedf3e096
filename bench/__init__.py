"""Every published figure has a command here: `make bench`. How to read them: bench/README.md."""
