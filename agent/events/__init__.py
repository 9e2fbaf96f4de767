"""Events as user space sees them: the model, who acted, and decoding of records."""
