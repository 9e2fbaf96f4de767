"""Tests that boot real kernels; all have the marker `guest`."""
