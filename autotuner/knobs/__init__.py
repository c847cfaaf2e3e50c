"""The knobs: their names, their values on this machine, and how each value is applied."""
