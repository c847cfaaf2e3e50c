"""The command line: parses, composes the stages, prints, and ends with an exit code."""
