"""Requests of one thread to another, each with an answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(eq=False)
class Request:
    """A request and its answer.

    Attributes:
        kind: name of the request.
        answered: set once there is an answer.
        done: the request was carried out.
        sentence: the answer in words.
    """

    kind: str
    answered: threading.Event = field(default_factory=threading.Event)
    done: bool = False
    sentence: str = ""

    def answer(self, done: bool, sentence: str) -> None:
        """Answer the request."""
        self.done, self.sentence = done, sentence
        self.answered.set()


class Requests:
    """A queue of requests.

    Args:
        who: name of the thread that answers, for the sentence when no answer comes.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def put(self, kind: str) -> Request:
        """Put a request into the queue."""
        request = Request(kind)
        self._waiting.put(request)
        return request

    def result(self, request: Request, limit_s: float) -> tuple[bool, str]:
        """Wait for the answer to a request: success and a sentence."""
        if not request.answered.wait(limit_s):
            return False, f"{self._who} does not answer"
        return request.done, request.sentence

    def drain(self) -> Iterator[Request]:
        """Yield the requests that wait for an answer."""
        while not self._waiting.empty():
            yield self._waiting.get()
