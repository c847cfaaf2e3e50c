"""Stands in for TensorFlow where a test is about processes, files and databases, not about speed.

Only the probe imports it; scripts there mark their steps themselves.
"""

__version__ = "2.21.0"
