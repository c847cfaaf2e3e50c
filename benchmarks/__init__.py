"""What the tool itself costs, and later what its search is worth. Not part of the package."""
