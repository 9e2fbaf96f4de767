"""Who did it: processes, users, containers."""
