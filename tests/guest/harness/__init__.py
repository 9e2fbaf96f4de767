"""The harness with real machines."""
