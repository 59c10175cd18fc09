"""The demonstration that `make demo` runs, and the loopback archive that it and the tests use."""
