"""The service: a queue of studies in the storage, who works it off, and an HTTP interface to it."""
