"""Runs virtual machines, from definition to end. The only package that imports libvirt."""
