"""The agent's commands, one file each: what they can be told, and which room does it."""
