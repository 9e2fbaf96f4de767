"""Plays a plan against machines and judges what happens."""
