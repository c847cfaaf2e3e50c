"""From windows and rounds to numbers with intervals: pure functions, no I/O."""
