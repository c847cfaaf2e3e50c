"""The real optuna-dashboard, behind a guard: it has no authentication and no Host check itself."""
