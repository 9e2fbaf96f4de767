"""Finds out which process, user and container caused an event."""
