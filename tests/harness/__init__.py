"""The spine of the harness, tested without machines."""
