"""The stages of tuning: each plans what to measure next; one loop runs them."""
