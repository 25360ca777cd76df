"""What a page of `holdfast watch` shows: something on the disk that may grow, as JSON data."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError

HEARTBEAT_S = 1.0
"""Longest time in which a page is told nothing."""


class Watched(ABC):
    """A run or a training, read while it grows. Its methods may be called from any thread.

    Attributes:
        page: HTML file with the content of the page; its script lies beside it.
        changed: notified when there is something new.
        version: rises whenever there is something new.
        problem: why nothing can be read any further, as a sentence; "" if it can.
    """

    page: Path

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 0
        self.problem = ""

    def read(self) -> bool:
        """Read what was not read before, and notify; return whether there was something."""
        if self.problem:
            return False
        try:
            if not self.look():
                return False
        except Exception as error:  # a file may be anybody's; the page says what is wrong with it
            known = isinstance(error, HoldfastError)
            self.problem = str(error) if known else f"the file cannot be shown ({error!r})"
        with self.changed:
            self.version += 1
            self.changed.notify_all()
        return True

    def changes(self) -> Iterator[None]:
        """Yield at once, then whenever something is new, and at least at every heartbeat."""
        seen = -1
        while True:
            with self.changed:
                if self.version == seen:
                    self.changed.wait(HEARTBEAT_S)
                seen = self.version
            yield

    @abstractmethod
    def look(self) -> bool:
        """Read what was not read before; return whether there was something.

        Raises:
            HoldfastError: the file cannot be read any further.
        """

    @abstractmethod
    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what a page is told, without an end: first all, then what is new."""

    def answer(self, path: str, query: Mapping[str, list[str]]) -> dict[str, Any] | None:
        """Return what a request of the page asks for; None: it asks for nothing that there is.

        Raises:
            ValueError: the query is not as it should be.
        """
        return None


def age_s(path: Path) -> float:
    """Return how long ago a file was changed, s."""
    try:
        return max(time.time() - os.stat(path).st_mtime, 0.0)
    except OSError:
        return 0.0
