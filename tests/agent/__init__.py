"""The agent's own files: output, metrics, privileges, the production loop."""
