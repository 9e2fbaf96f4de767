"""Runs a plan on machines and turns what happens into verdicts."""
