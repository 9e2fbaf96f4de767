"""Known file events, and what must come of each."""
