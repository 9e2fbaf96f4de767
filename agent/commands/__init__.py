"""The agent's commands: each module declares its options and calls the package that does the work."""
