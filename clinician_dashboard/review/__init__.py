"""The human act: claim, review, sign-off, amendment, critical call."""
