"""ROS graphs for tests, over real sockets, in a domain that no other test run shares."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _claimed() -> str:
    """Return a domain that no other test run on this computer has, by a port of its that DDS
    leaves alone."""
    for number in range(1, 100):  # above 101, DDS's ports may be those the kernel gives to others
        with contextlib.suppress(OSError):
            _claim.bind(("127.0.0.1", 7400 + 250 * number + 5))
            return str(number)
    raise RuntimeError("99 test runs hold every domain")


_OWN = f"HOLDFAST_TEST_DOMAIN_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
DOMAIN = os.environ.get(_OWN) or _claimed()
"""Not the user's own, in which there may be a robot; child processes share it, and other workers
of pytest-xdist do not."""
os.environ[_OWN] = DOMAIN

ENVIRONMENT = {
    "ROS_DOMAIN_ID": DOMAIN,
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "CYCLONEDDS_URI": "",
    "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
}


@contextmanager
def graph(name: str, namespace: str = "") -> Iterator[Any]:
    """Join the tests' domain as a node."""
    from holdfast.robot.dds.graph import DdsGraph

    os.environ.update(ENVIRONMENT)
    made = DdsGraph(name, namespace)
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Wait until something is so, and return it; fails if it never is."""
    deadline_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "it never came to pass"
        time.sleep(0.005)
    return found


class Heard(list[Any]):
    """Collects a topic's messages."""

    def __init__(self, on: Any, topic: str, type_name: str, qos: Any) -> None:
        super().__init__()
        on.subscribe(topic, type_name, qos, self.append)
