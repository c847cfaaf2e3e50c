"""Test support: a simulated machine, the replay of recorded ones, and a PostgreSQL server.

Tests and benchmarks import this package; the product does not.
"""
