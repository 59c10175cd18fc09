"""The demonstration of `make demo`, and the loopback archive that it shares with the tests."""
