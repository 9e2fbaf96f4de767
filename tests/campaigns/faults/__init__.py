"""Faults that are put into real machines, each with its expected verdict; see `make faults`."""
