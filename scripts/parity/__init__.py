"""The parts of scripts/check-parity."""
