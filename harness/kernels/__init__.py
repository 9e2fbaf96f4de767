"""Which kernels there are, and getting one: apt resolves, verifies and fetches."""
