"""Limits of how often something may happen."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

MINUTE_S = 60.0
_MOST_KEPT = 4096


class Limiter:
    """Allows a number of requests a minute from each client, at most that many at once.

    Args:
        per_minute: of each client.
        monotonic: a clock.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def has_left(self, client: str) -> bool:
        """Return whether the next request of a client is allowed, without counting it."""
        return self._left(client, self._monotonic()) >= 1

    def _left(self, client: str, now: float) -> float:
        left, at = self._buckets.get(client, (float(self.per_minute), now))
        return min(self.per_minute, left + (now - at) * self.per_minute / MINUTE_S)

    def allows(self, client: str) -> bool:
        """Count a request of a client, and return whether it is allowed."""
        now = self._monotonic()
        left = self._left(client, now)
        self._buckets.pop(client, None)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > _MOST_KEPT:
            self._buckets.popitem(last=False)
        return allowed


class Throttle(logging.Filter):
    """Passes a number of records a minute: clients must not be able to fill the disk with the log.

    Args:
        per_minute: as many records, or that many at once.
        monotonic: a clock.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limiter = Limiter(per_minute, monotonic)
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written; the next one after a gap says how many were not."""
        if not self._limiter.allows(""):
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"({self._left_out} messages left out) {record.getMessage()}"
            record.args = ()
            self._left_out = 0
        return True
