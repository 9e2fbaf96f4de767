"""Where programs are attached and what each sees of each event type: data."""
