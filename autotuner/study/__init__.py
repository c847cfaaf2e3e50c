"""The study: Optuna's storage, samplers and trials, and the loop that fills them."""
