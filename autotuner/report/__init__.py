"""What the user sees: progress while a study runs, tables when it has run."""
