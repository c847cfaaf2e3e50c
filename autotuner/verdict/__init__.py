"""The verdict: which configuration to recommend, and its speed-up."""
