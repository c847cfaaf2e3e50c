"""Launching: a user's command with a configuration applied, and what then takes effect."""
