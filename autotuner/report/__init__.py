"""What the user sees: progress while a study runs, and its result in every form."""
