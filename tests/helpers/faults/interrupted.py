"""Runs a Holdfast command, and kills it at one of its file operations, or lets that one fail.

Python tells a profile function of each call of a built-in function before it is made, so what runs
is the real code. The operations are those that can change what is on a disk. The command runs in a
process of its own, forked from one that has imported it already.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from io import IOBase
from types import FrameType, ModuleType
from typing import Any

CHANGING = {
    *("open", "write", "flush", "fsync", "close"),
    *("mkdir", "rename", "replace", "unlink", "remove", "link", "flock", "ftruncate"),
}
NEEDS_ROOM = {"open", "write", "flush", "fsync", "mkdir", "replace"}

REACHED = "(here)\n"

PRELOADED = ["holdfast.cli", "holdfast.options", "holdfast.robot.promote.promote"]
PRELOADED += ["tyro", "typeguard"]  # which tyro loads at its first use


def run(how: str, number: int, arguments: Sequence[object]) -> tuple[int, str, bool]:
    """Run a command.

    Returns:
        Its exit status or minus the signal that killed it; its complaints; and whether there was
        an operation of this number.

    Args:
        how: `kill`, or `full` for a disk without room.
        number: of the operation, from 1; with one beyond the last the command just runs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.NamedTemporaryFile("r") as said:
        words = list(map(str, arguments))
        process = context.Process(target=_main, args=(how, number, words, said.name))
        process.start()
        process.join()
        assert process.exitcode is not None
        complaints = said.read()
        return process.exitcode, complaints.replace(REACHED, ""), REACHED in complaints


def _main(how: str, number: int, arguments: list[str], said: str) -> None:
    from holdfast.cli import COMMANDS, main

    os.dup2(os.open(said, os.O_WRONLY), 2)
    COMMANDS[arguments[0]].load()  # imports read files; they are not what is tried here
    done, watched = 0, CHANGING if how == "kill" else NEEDS_ROOM

    def look(frame: FrameType, event: str, called: Any) -> None:
        nonlocal done
        if event != "c_call" or called.__name__ not in watched or not _ours(frame):
            return
        if not isinstance(getattr(called, "__self__", None), ModuleType | IOBase):
            return  # str.replace, list.remove
        done += 1
        if done != number:
            return
        sys.setprofile(None)
        os.write(2, REACHED.encode())
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.setprofile(look)
    status = main(arguments)
    sys.setprofile(None)
    sys.exit(status)


def _ours(frame: FrameType | None) -> bool:
    """Return whether Holdfast makes a call, or pathlib for it."""
    while frame is not None and frame.f_globals.get("__name__") == "pathlib":
        frame = frame.f_back
    name = "" if frame is None else frame.f_globals.get("__name__", "")
    return name.startswith(("holdfast.files", "holdfast.registry", "holdfast.robot"))
