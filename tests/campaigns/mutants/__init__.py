"""Deliberate faults of the agent: each must turn the right self-test red on a real kernel."""
