"""Delivers matches to files, stdout and collectors: one module for each sink."""
