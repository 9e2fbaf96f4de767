"""run --watch: build, update and test again on each save."""
