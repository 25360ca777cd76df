"""`holdfast watch`: a page in the browser that shows a run or a training, live or afterwards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import tyro

from holdfast.errors import LogError
from holdfast.log.format import PROGRESS
from holdfast.robot.view.server import POLL_S, Server
from holdfast.robot.view.watched import Watched
from holdfast.robot.view.watched_run import WatchedRun
from holdfast.robot.view.watched_training import WatchedTraining

RUNS = Path("runs")


def command(
    run: Annotated[Path | None, tyro.conf.Positional] = None,
    live: bool = False,
    host: str = "127.0.0.1",
    port: int = 8765,
) -> None:
    """Show a run or a training in the browser, while it runs or afterwards.

    The viewer is a process of its own that reads the run's log or the training's records, so it
    cannot disturb them. It serves one page. Of a run the page shows the safety monitor's state and
    its reason, the budget, the map, the actions, and the ten seconds before each stop; of a
    training, the curves of the return, of each cost with its limit, of the KL divergence and of the
    speed. Ctrl-C ends the viewer alone.

    On a robot without a screen: `ssh -L 8765:localhost:8765 robot`, then open
    http://localhost:8765/ on your own computer.

    Args:
        run: the directory of a run or of a training, or a log file. Default: the newest of them in
            `runs`.
        live: wait for a run or a training that has not begun.
        host: the address to listen at. Whoever can reach another address than the default can
            read the log.
        port: the port to listen at; 0 for any free port.
    """
    path = find(run, live)
    server = Server(watched(path), host, port)
    print(f"{path}: {server.url}")
    server.run()


def find(run: Path | None, live: bool) -> Path:
    """Return the directory or the log to show.

    Args:
        run: the run or the training; None: the newest below `runs`.
        live: wait until there is one; of the newest, one that does not exist yet.

    Raises:
        LogError: there is none.
    """
    below = "**/" if run is None else ""
    known = set(_files(RUNS, below)) if run is None else set()
    if live:
        print(f"waiting for a log or a training in {run or RUNS}")
    while True:
        found = [file for file in _files(run or RUNS, below) if not live or file not in known]
        if found:
            return run or max(found, key=lambda file: file.stat().st_mtime).parent
        if not live:
            raise LogError(
                f"{run or RUNS}: should hold the log of a run (*_0.mcap) or a training "
                f"({PROGRESS}), found neither; --live waits for one that has not begun"
            )
        time.sleep(10 * POLL_S)


def watched(path: Path) -> Watched:
    """Return the run or the training at a path that `find` returned.

    Raises:
        LogError: the path is a file that is no log.
    """
    training = [file for file in _files(path) if file.name == PROGRESS]
    return WatchedTraining(training[0].parent) if training else WatchedRun(path)


def _files(path: Path, below: str = "") -> list[Path]:
    """Return the files of a run or of a training at a path; with "**/", also of those below."""
    if path.is_file():
        return [path]
    return [file for name in ("*_0.mcap", PROGRESS) for file in path.glob(below + name)]
