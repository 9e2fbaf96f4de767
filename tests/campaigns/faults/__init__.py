"""Faults put into real machines, each with the verdict that it must end in; see `make faults`."""
