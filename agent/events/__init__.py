"""Defines events, processes and containers, and decodes records from the kernel."""
