"""Who did it: tests on a copy of the shape of /proc, with no clock but the events' own."""
