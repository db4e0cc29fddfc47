"""What the tests of the dashboard run against: messages, a far side, the daemon, its users, its databases."""
