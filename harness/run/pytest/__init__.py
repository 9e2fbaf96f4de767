"""The run as pytest items, and the scheduler for pytest-xdist."""
