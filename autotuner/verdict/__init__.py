"""The verdict: which configuration is recommended, and what is known of its speed-up."""
