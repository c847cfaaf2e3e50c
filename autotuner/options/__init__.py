"""What to tune: the study specification, from flags, a ``study.toml`` or a reference workload."""
