"""Generates known file events and checks what the agent reports for each."""
