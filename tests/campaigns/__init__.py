"""Programs that search for faults in machines, in the agent and in rules: `make faults`, `mutants`, `law`."""
