"""One file a command of the harness."""
