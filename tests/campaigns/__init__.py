"""Programs that put faults into machines (`make faults`) and into the code (`make mutants`)."""
