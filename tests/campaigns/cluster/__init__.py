"""A cluster of simulated hosts under faults: `python -m tests.campaigns.cluster`."""
