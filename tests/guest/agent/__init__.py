"""The agent as a service, in real guests."""
