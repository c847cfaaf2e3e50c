"""Templates of the service's pages."""
