"""The oracle's arena in real guests."""
