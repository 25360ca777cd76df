"""Child processes that always end with this process, also after SIGKILL.

A `finally` does not run after SIGKILL, and a hung child does not notice that its pipe was closed.
So on Linux the kernel sends each child a signal when its parent ends. On other systems a child ends
when its pipe is closed, or when its parent ends it.
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
        at_end: the signal that the child gets when this process, or the thread that started the
            child, ends.
        options: keyword arguments of subprocess.Popen.
    """
    # Without the working folder in the import path: a random.py there would run in the child.
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    tied = ["-m", "holdfast.child", str(os.getpid()), str(int(at_end)), module]
    return subprocess.Popen([sys.executable, *safe, *tied, *arguments], **options)


def tie(parent: int, at_end: int) -> None:
    """Ask for a signal at the end of this process's parent; exit if the parent has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, at_end, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the request
        sys.exit(128 + at_end)


def main() -> None:
    """Run the module that the command line names, tied to the parent process."""
    _, parent, at_end, module, *arguments = sys.argv
    tie(int(parent), int(at_end))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
