"""The service: a queue of studies in the storage, the executor that tunes them, HTTP in front."""
