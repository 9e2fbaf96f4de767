"""The commands of `harness`, one module for each; `options.py` and `booted.py` are shared."""
