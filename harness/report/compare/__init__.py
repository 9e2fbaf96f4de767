"""What changed between two runs, as data and as text."""
