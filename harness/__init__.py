"""Boots real kernels and says what the agent's promises are worth on each."""
