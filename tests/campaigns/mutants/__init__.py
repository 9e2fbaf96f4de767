"""Deliberate faults of the agent: each must make the right self-test fail on a real kernel."""
