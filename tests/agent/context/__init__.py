"""The context of events: tests on files with the layout of /proc; the only clock is that of the events."""
