"""Lists where programs are attached, for which event types, and what they see: data and lookups."""
