"""matrix.yaml and a command line become a Plan: cells, machines, tests."""
