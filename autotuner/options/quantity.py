"""Amounts of memory such as "512M" and "1.5 GiB"."""

import re

from autotuner.errors import UserError

_FORM = re.compile(r"([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str, *, where: str) -> int:
    """Return a number of bytes; K, M, G and T are powers of 1024.

    Raises:
        UserError: if the text is not an amount of memory above zero.
    """
    found = _FORM.fullmatch(text.strip())
    amount = 0 if found is None else int(float(found[1]) * 1024 ** _POWERS[found[2].upper()])
    if amount <= 0:
        hint = "write it as 512M or 1.5G"
        raise UserError(f'{where}: "{text}" is not an amount of memory', hint=hint)
    return amount
