"""What the kernel may drop: approvers from the rules, discarders from what was seen."""
