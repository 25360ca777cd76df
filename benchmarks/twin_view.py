"""How late a twin is without a viewer and with one: open, stuck, hung and killed.

    chrt -f 10 .venv/bin/python -m benchmarks.twin_view --rounds 5

The twin runs in real time and says its state every 10 ms of simulated time. A state's lateness is
its arrival here, by the host's clock, after the time that it is stamped with; the earliest of a run
tells how the clocks lie. Runs of each kind take turns, so that whatever else the machine does meets
all alike. The page is a program here that takes what a browser would be sent; a stuck page takes
nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
import tty
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import tyro

from benchmarks.watch import Page, processor_s
from holdfast.robot.serial.device import HELLO
from holdfast.robot.serial.link import Decoder, DeviceState, encode
from holdfast.signals import Array
from tests.helpers.robots.twins import TwinProcess, running_twin

KINDS = ("no viewer", "a page", "a page that is stuck", "a viewer that hangs", "a viewer killed")


def lateness_ms(address: str, seconds: float) -> Array:
    """Return how late each state of a twin is, ms."""
    fd, decoder = os.open(address.removeprefix("serial:"), os.O_RDWR | os.O_NOCTTY), Decoder()
    tty.setraw(fd)
    os.write(fd, encode(HELLO, 1, 0))  # who is greeted says its state
    late, end_s = [], time.monotonic() + seconds
    try:
        while (now_s := time.monotonic()) < end_s:
            if select.select([fd], [], [], end_s - now_s)[0]:
                data, came_s = os.read(fd, 4096), time.monotonic()
                messages = decoder.feed(data)
                late += [came_s - m.time_us / 1e6 for m in messages if isinstance(m, DeviceState)]
    finally:
        os.close(fd)
    return 1e3 * (np.array(late) - min(late))


def disturb(kind: str, twin: TwinProcess, stack: contextlib.ExitStack) -> int:
    """Do to a twin's viewer what the kind says; return its process."""
    assert twin.process.stdout is not None
    url, pid = twin.process.stdout.readline().split()[-1], twin.process.pid
    (viewer,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if kind == KINDS[2]:
        where = urlsplit(url)
        stuck = stack.enter_context(socket.create_connection((where.hostname, where.port)))
        stuck.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    else:
        stack.callback(lambda page: None, Page(url))
    time.sleep(1.0)
    ends = {KINDS[3]: signal.SIGSTOP, KINDS[4]: signal.SIGKILL}
    if kind in ends:
        os.kill(int(viewer), ends[kind])
    return int(viewer)


def one_run(kind: str, seconds: float) -> tuple[Array, float]:
    """Return a run's lateness, and the share of a processor that its viewer used."""
    options = () if kind == KINDS[0] else ("--view", "--view-port", 0)
    with running_twin(*options) as twin, contextlib.ExitStack() as stack:
        viewer = disturb(kind, twin, stack) if options else 0
        before_s = processor_s(viewer) if viewer else 0.0
        late = lateness_ms(twin.address, seconds)
        share = (processor_s(viewer) - before_s) / seconds if viewer else 0.0
        return late, share


def main(rounds: int = 5, seconds: float = 10.0) -> None:
    """Measure and print.

    Args:
        rounds: runs of each kind, in turn.
        seconds: length of each run.
    """
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    late: dict[str, list[Array]] = {kind: [] for kind in KINDS}
    shares = []
    for _ in range(rounds):
        for kind in KINDS:
            found, share = one_run(kind, seconds)
            late[kind].append(found)
            shares += [share] if kind == KINDS[1] else []
    for kind, runs in late.items():
        p50, p99, most = np.percentile(np.concatenate(runs), [50, 99, 100])
        median = np.median([np.percentile(run, 99) for run in runs])
        print(
            f"{kind}: p50 {p50:.2f} ms, p99 {p99:.2f} ms (median of the runs' {median:.2f}), "
            f"most {most:.2f} ms, {sum(map(len, runs))} states"
        )
    print(f"viewer with a page: {', '.join(f'{share:.1%}' for share in shares)} of a processor")


if __name__ == "__main__":
    tyro.cli(main)
