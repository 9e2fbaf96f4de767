"""Measures what monitoring costs: the agent beside other monitors, on one kernel, without noise."""
