"""This host: its facts, its lock, what makes it noisy."""
