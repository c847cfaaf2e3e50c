"""The knobs: what can be set, in which domain on this machine, and how each setting is applied."""
