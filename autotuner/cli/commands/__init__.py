"""Declarations of the commands, a module for each panel of ``autotune --help``.

A declaration states the options. It imports the implementation in the function's body, so that help
and completion load no Optuna, SQLAlchemy, numpy or scipy.
"""
