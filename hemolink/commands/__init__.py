"""The front door's own commands, one a module; each imports what it needs when it is called."""
