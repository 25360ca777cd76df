"""Programs that this one starts, and that end when it does, however it ends.

A `finally` does not run after SIGKILL, and a hung program does not see that its pipe was closed.
So on Linux the kernel is asked to send each such program a signal when its parent ends. Elsewhere
a program ends when it sees its pipe closed, or when its parent ends it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(module: str, *arguments: str, at_end: signal.Signals, **options: Any) -> Any:
    """Run `python -m MODULE ARGUMENTS...` beside this process; return its subprocess.Popen.

    Args:
        at_end: what it is sent when this process ends, or the thread that started it does.
        options: of subprocess.Popen.
    """
    tied = [sys.executable, "-m", "holdfast.child", str(os.getpid()), str(int(at_end))]
    return subprocess.Popen([*tied, module, *arguments], **options)


def tie(parent: int, at_end: int) -> None:
    """Let this process be sent a signal when its parent ends; end now if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, at_end, 0, 0, 0)
    if os.getppid() != parent:  # it ended before it could be asked for
        sys.exit(128 + at_end)


def main() -> None:
    """Be the program that the command line names, tied to its parent."""
    _, parent, at_end, module, *arguments = sys.argv
    tie(int(parent), int(at_end))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
