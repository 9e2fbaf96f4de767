"""Boots real kernels and tests on each whether the agent keeps its promises."""
