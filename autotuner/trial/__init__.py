"""The trial: one run of the user's script under one configuration, in a process of its own."""
