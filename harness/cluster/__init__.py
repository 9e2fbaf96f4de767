"""Runs the machines of one plan on many hosts, on Dask distributed: the optional extra `cluster`.

A task is one machine. The client (`dispatch`) decides which worker runs it and sends a `Part`; the worker
(`plugin`) starts `harness run --part` as a child process and returns the output folder as an archive.
"""
