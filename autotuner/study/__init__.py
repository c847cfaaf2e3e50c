"""The study: Optuna's storage, samplers and trials, the memory of a study, and the lab."""
