"""A user's command with a configuration applied, and which of its settings take effect."""
