"""What readers do with a case: claim, read, confirm or override, call, sign, amend. Rules are pure functions in modules of their own."""
