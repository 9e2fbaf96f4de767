"""Decides which events the kernel may drop: approvers from the rules, discarders from past events."""
