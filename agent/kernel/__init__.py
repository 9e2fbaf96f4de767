"""Loads, attaches and reads the BPF programs; the only package that calls libbpf."""
