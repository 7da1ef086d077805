"""What was parsed last, by the bytes that it was parsed from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key, as many as were parsed from so many bytes; the oldest are forgotten first.

    Args:
        most_bytes: Of the stored form of all values that are kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._held: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def get(self, key: Hashable) -> Value | None:
        """The value of a key, if it is still kept."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value, size: int) -> Value:
        """Keep a value, unless another thread has kept one of the same key: the one that is kept."""
        with self._lock:
            if key not in self._held:
                self._held[key] = (value, size)
                self._bytes += size
            kept = self._held[key][0]
            while self._bytes > self.most_bytes:
                _, (_, oldest) = self._held.popitem(last=False)
                self._bytes -= oldest
            return kept
