"""From results to what people read: one file a format."""
