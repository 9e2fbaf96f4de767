"""The sinks of matches: files, a collector on the loopback device, and their failures."""
