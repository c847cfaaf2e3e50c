"""This host: its facts, its lock, and the causes of its noise."""
