"""The study specification, from flags, a ``study.toml``, a request or a reference workload."""
