"""What flows through headrace, and the rules for it."""
