"""Everything about this host: cache, locks, processes, signals, capacity, acceleration, progress."""
