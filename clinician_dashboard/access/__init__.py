"""Who may do what: users, roles, sign-in, sessions, tokens of integrations."""
