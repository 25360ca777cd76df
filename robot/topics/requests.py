"""Requests: what one thread asks of another, and waits to be told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(eq=False)
class Request:
    """Something that was asked, and what came of it."""

    kind: str
    answered: threading.Event = field(default_factory=threading.Event)
    done: bool = False
    sentence: str = ""

    def answer(self, done: bool, sentence: str) -> None:
        """Say what came of it."""
        self.done, self.sentence = done, sentence
        self.answered.set()


class Requests:
    """A queue of them.

    Args:
        who: has to answer, for the sentence when it does not.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def put(self, kind: str) -> Request:
        """Ask."""
        request = Request(kind)
        self._waiting.put(request)
        return request

    def result(self, request: Request, limit_s: float) -> tuple[bool, str]:
        """Wait for the answer: success and a sentence."""
        if not request.answered.wait(limit_s):
            return False, f"{self._who} does not answer"
        return request.done, request.sentence

    def drain(self) -> Iterator[Request]:
        """Yield what waits to be answered."""
        while not self._waiting.empty():
            yield self._waiting.get()
