"""Runs the agent as a service: start, event loop, control socket, metrics, privileges."""
