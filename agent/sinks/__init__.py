"""Where matches go: one file a sink."""
