"""Turns matrix.yaml and the options of the command line into a Plan: cells, machines and tests."""
