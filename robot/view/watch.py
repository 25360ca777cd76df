"""`holdfast watch`: a page in the browser that shows a run while it runs, or an old log."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Annotated

import tyro

from holdfast.errors import LogError
from holdfast.robot.view.server import POLL_S, Server
from holdfast.robot.view.watched import WatchedRun

RUNS = Path("runs")


def command(
    run: Annotated[Path | None, tyro.conf.Positional] = None,
    live: bool = False,
    host: str = "127.0.0.1",
    port: int = 8765,
) -> None:
    """Show a run in the browser, while it runs or afterwards.

    The viewer is a process of its own that reads the run's log, so it cannot disturb the run.
    It serves one page, which shows the safety monitor's state and its reason, the budget, the
    map, the actions, and the ten seconds before each stop. Ctrl-C ends the viewer alone.

    On a robot without a screen: `ssh -L 8765:localhost:8765 robot`, then open
    http://localhost:8765/ on your own computer.

    Args:
        run: the run's directory or its log file. Default: the newest run in `runs`.
        live: wait for the log of a run that has not begun.
        host: the address to listen at. Whoever can reach another address than the default can
            read the log.
        port: the port to listen at; 0 for any free port.
    """
    path = find(run, live)
    watched = WatchedRun(path)
    server = Server(watched, host, port)
    print(f"{path}: {server.url}")
    stop = threading.Event()
    threading.Thread(target=server.follow, args=(stop,), name="follower", daemon=True).start()
    try:
        server.serve_forever()
    finally:
        stop.set()
        server.server_close()


def find(run: Path | None, live: bool) -> Path:
    """Return the log to show.

    Args:
        run: the run; None: the newest below `runs`.
        live: wait until there is one; of the newest, one that does not exist yet.

    Raises:
        LogError: there is none.
    """
    known = set(_logs(RUNS)) if run is None else set()
    if live:
        print(f"waiting for a log in {run or RUNS}")
    while True:
        found = [log for log in _logs(RUNS if run is None else run) if not live or log not in known]
        if found:
            return run or max(found, key=lambda log: log.stat().st_mtime).parent
        if not live:
            raise LogError(
                f"{run or RUNS}: should hold the log of a run (*_0.mcap), found none; --live waits "
                "for a run that has not begun"
            )
        time.sleep(10 * POLL_S)


def _logs(path: Path) -> list[Path]:
    """Return the logs at a path: the file itself, those of a run, or those of all runs below."""
    if path.is_file():
        return [path]
    return [*path.glob("*_0.mcap")] if path != RUNS else [*path.rglob("*_0.mcap")]
