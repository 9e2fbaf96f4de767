"""Views of results that several formats share; no format of its own."""
