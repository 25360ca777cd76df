"""What a viewer costs a run, what the viewer itself costs, and how late a stop is on the page.

    python -m benchmarks.watch --rounds 5

The run is `holdfast deploy` against a twin in real time, at 50 Hz, each a process of its own. Runs
without a viewer, with a viewer and an open page, and with a viewer that hangs (SIGSTOP) take turns,
so that whatever else the machine does meets all alike. The page is a program here that takes
everything that a browser would be sent: a browser runs on another computer, or is not the viewer.

A period's lateness is its beginning after its deadline. Deadlines are absolute, so the earliest
period of an episode's first second, relative to its number, tells them all. The delay of a stop is
from the call that records it to its sentence in the page's stream, of a log written at 50 Hz.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import tyro
import yaml

from holdfast.log.format import STOPPED, EpisodeResult
from holdfast.log.reader import read
from holdfast.log.writer import CHUNK_S, Recorder
from holdfast.robot import config as configs
from holdfast.signals import Array
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots.runs import deployment
from tests.helpers.robots.twins import running_twin
from tests.helpers.web import logs

PERIOD_S = 0.02
VIEWERS = ("no viewer", "viewer and page", "viewer that hangs")


class Page(threading.Thread):
    """Takes what a browser would be sent; keeps when each stop's sentence came."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        address = urlsplit(url)
        self.came_s: dict[str, float] = {}
        self._socket = socket.create_connection((address.hostname, address.port), 20)
        self._socket.settimeout(None)
        self._socket.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    now_s = time.monotonic()
                    for stop in json.loads(line[6:]).get("stops", ()):
                        self.came_s.setdefault(stop["text"], now_s)


def processor_s(pid: int) -> float:
    """Return how long a process has used a processor, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def files(folder: Path, steps: int) -> tuple[Path, Path]:
    """Write a bundle with a period of 20 ms, and a configuration under which it drives on."""
    contract = drive_contract(period_s=PERIOD_S, episode_steps=steps)
    policy = write_bundle(folder / "policy.onnx", contract, action=[0.0, 0.5])
    data = yaml.safe_load(configs.find("drive").read_text())
    data["proposal_wait_s"] = 0.6 * PERIOD_S
    data["monitor"] |= dict.fromkeys(
        ("geofence", "tracking", "following", "consistency", "frozen", "coasting")
    )
    config = folder / "drive.yaml"
    config.write_text(yaml.safe_dump(data))
    return policy, config


def lateness_ms(folder: Path) -> Array:
    """Return by how much each period of a run began after its deadline, ms.

    As in `Loop.wait`, a period that is late by whole periods moves the deadlines after it.
    """
    late = []
    for episode in read(folder).episodes:
        begun = episode.now_s - PERIOD_S * np.arange(len(episode.now_s))
        missed_s = 0.0
        for behind_s in begun - begun[: round(1.0 / PERIOD_S)].min():
            late.append(behind_s - missed_s)
            missed_s += max(np.floor((behind_s - missed_s) / PERIOD_S), 0.0) * PERIOD_S
    return 1e3 * np.array(late)


def one_run(kind: str, folder: Path, policy: Path, config: Path) -> tuple[Array, float]:
    """Return a run's lateness, and the viewer's share of a processor; NaN without a page."""
    out, share = folder / "run", np.nan
    with running_twin("--seed", 1) as twin, contextlib.ExitStack() as stack:
        options = ("--config", str(config))
        waiting = None if kind == VIEWERS[0] else stack.enter_context(waiting_viewer(out))
        run = stack.enter_context(deployment(out, twin.address, policy, *options))
        if waiting is not None:
            process, url = waiting()
            page = Page(url)
            time.sleep(2.0)
            if kind == VIEWERS[2]:
                process.send_signal(signal.SIGSTOP)
            before_s, began_s = processor_s(process.pid), time.monotonic()
            run.process.wait()
            if kind == VIEWERS[1]:
                share = (processor_s(process.pid) - before_s) / (time.monotonic() - began_s)
            del page
        status, _, err = run.end()
        if status:
            print(f"  {kind}: the run was stopped ({err.strip()})")
    return lateness_ms(out), share


@contextlib.contextmanager
def waiting_viewer(out: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], str]]]:
    """Start a viewer that waits for a run; yields what returns its process and its address."""
    command = [sys.executable, "-m", "holdfast", "watch", str(out), "--live", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout

    def there() -> tuple[subprocess.Popen[str], str]:
        lines.readline()  # that it waits
        return process, lines.readline().rpartition(": ")[2].strip()

    try:
        yield there
    finally:
        process.kill()
        process.communicate()


def delays_ms(folder: Path, stops: int) -> Array:
    """Return by how much each of some stops came to the page after it was recorded, ms."""
    log = Recorder(folder / "run", logs.with_scan())
    recorded_s = {}
    with waiting_viewer(folder / "run") as there:
        _, url = there()
        page = Page(url)
        rng, next_s = np.random.default_rng(0), time.monotonic()
        for number in range(stops):
            steps = int(rng.integers(10, 60))
            for step in range(steps + 1):
                one = logs.circling(number, step, scan=True)
                log.step(logs.stopping(one) if step == steps else one)
                if step == steps:
                    text = f"stop {number}"
                    end = EpisodeResult(number, steps, (0.0,), 0, 0, STOPPED, logs.CODE, text)
                    recorded_s[text] = time.monotonic()
                    log.episode(one.now_s, end)
                next_s += PERIOD_S
                time.sleep(max(next_s - time.monotonic(), 0.0))
        time.sleep(2.0)
        log.close()
    return 1e3 * np.array([page.came_s[text] - at_s for text, at_s in recorded_s.items()])


def main(rounds: int = 5, seconds: float = 20.0, stops: int = 100) -> None:
    """Measure and print.

    Args:
        rounds: runs of each kind, one after another in turn.
        seconds: length of each run.
        stops: stops whose delay is measured.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        policy, config = files(root, round(seconds / PERIOD_S))
        late: dict[str, list[Array]] = {kind: [] for kind in VIEWERS}
        shares = []
        for number in range(rounds):
            for place, kind in enumerate(VIEWERS):
                folder = root / f"{number}-{place}"
                folder.mkdir()
                found, share = one_run(kind, folder, policy, config)
                late[kind].append(found)
                if not np.isnan(share):
                    shares.append(share)
                p50, p99 = np.percentile(found, [50, 99])
                print(f"  round {number}, {kind}: p50 {p50:.3f} ms, p99 {p99:.3f} ms")
        print("lateness of the loop at 50 Hz:")
        for kind, runs in late.items():
            pooled = np.concatenate(runs)
            p50, p99, p999 = np.percentile(pooled, [50, 99, 99.9])
            median = np.median([np.percentile(run, 99) for run in runs])
            print(
                f"{kind}: p50 {p50:.3f} ms, p99 {p99:.3f} ms (median of the runs' {median:.3f}), "
                f"p99.9 {p999:.3f} ms, {len(pooled)} periods"
            )
        percent = [f"{share:.2%}" for share in shares]
        print(f"viewer with a page: {', '.join(percent)} of a processor")
        found = delays_ms(root / "delays", stops)
        p50, p99 = np.percentile(found, [50, 99])
        print(
            f"delay of a stop's sentence: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most "
            f"{found.max():.1f} ms, {len(found)} stops; a period has {1e3 * PERIOD_S:g} ms, and "
            f"without a stop the log is written every {1e3 * CHUNK_S:g} ms"
        )


if __name__ == "__main__":
    tyro.cli(main)
