"""Packages that are installed with an extra only."""

import importlib.util

from autotuner.errors import UserError


def check_installed(*packages: str) -> None:
    """Raise UserError if one of the packages of the extra ``service`` is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            hint = "pip install 'tf-autotune[service]'"
            raise UserError(f"the service needs the package {package}", hint=hint)
