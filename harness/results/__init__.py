"""Results of a run: the models of results.json, verdicts, expectations, merging, and the run folder."""
