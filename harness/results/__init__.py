"""The models of results.json, verdicts, expectations, merging, the output folder."""
