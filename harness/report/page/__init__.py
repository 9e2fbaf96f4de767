"""What the HTML report shows, as plain data: results in, rows and columns out. No markup, no escaping."""
