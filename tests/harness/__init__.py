"""The harness, tested without machines: one folder for each package."""
