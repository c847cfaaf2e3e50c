"""Export: the recommended configuration as files to deploy."""
