"""What a kernel prints when it is in trouble, as data and as findings."""
