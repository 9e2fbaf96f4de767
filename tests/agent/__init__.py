"""The agent, tested without guests: one folder for each package."""
