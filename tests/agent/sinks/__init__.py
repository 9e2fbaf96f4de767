"""Where matches go: files, a collector on the loopback device, and what happens when they fail."""
