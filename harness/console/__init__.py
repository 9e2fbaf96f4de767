"""Finds kernel trouble in consoles and kernel logs."""
