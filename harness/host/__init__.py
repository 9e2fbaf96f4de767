"""This computer: cache, locks, child processes, signals, capacity, acceleration, progress."""
