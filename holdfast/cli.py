"""The command line: `holdfast COMMAND ...`.

A command is a function; tyro reads its signature and docstring. Modules are imported only
when their command runs, so that a robot needs nothing that only training uses.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from holdfast import __version__, how_to_install
from holdfast.errors import ConfigError, HoldfastError

OPTIONAL = {"cyclonedds": "dds", "ray": "ray", "mujoco_warp": "warp", "warp": "warp"}
"""Packages that only some ways of running a command need, and the extra that brings each."""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """A line of the table.

    Attributes:
        target: "module:function"; the function may return an exit status.
        summary: one line for `holdfast --help`.
        extra: the pip extra that brings what the command imports; "" is the base install.
        defaults: "module:function" that is given the options and returns what arguments of the
            target are by default, where that depends on them (a preset, say).
    """

    target: str
    summary: str
    extra: str = ""
    defaults: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        return _import(self.target)

    def prepared(self, options: Sequence[str]) -> Callable[..., Any]:
        """Import the function and give its arguments the defaults for these options."""
        function = self.load()
        if self.defaults:
            return functools.partial(function, **_import(self.defaults)(options))
        return function


def _import(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


COMMANDS = {
    "demo": Command("holdfast.policy.demo:command", "the whole loop, on a twin", "train"),
    "train": Command(
        "holdfast.policy.train:command",
        "learn a policy in simulation",
        "train",
        "holdfast.policy.train:command_defaults",
    ),
    "check": Command("holdfast.sim.response:command", "check a robot and its task", "train"),
    "export": Command(
        "holdfast.policy.ship.export:command", "export a trained policy to ONNX", "train"
    ),
    "verify": Command("holdfast.policy.ship.verify:command", "check a bundle", "train"),
    "twin": Command(
        "holdfast.sim.twin.serve:command", "serve a simulated robot on a port", "train"
    ),
    "deploy": Command("holdfast.robot.run.deploy:command", "run a bundle on a robot, and log it"),
    "replay": Command("holdfast.robot.run.replay:command", "replay a log through the monitor"),
    "finetune": Command(
        "holdfast.policy.improve.finetune:command", "fine-tune a policy on logged runs", "train"
    ),
    "report": Command("holdfast.policy.report:command", "rebuild the page of a demo", "train"),
    "reproduce": Command(
        "holdfast.policy.reproduce:command", "compare algorithms over seeds", "train"
    ),
    "doctor": Command("holdfast.doctor:command", "say what is installed and whether it works"),
}


def help_text() -> str:
    """Return what `holdfast --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: holdfast COMMAND [OPTIONS]",
            "",
            "Train a policy under a cost budget, run it on a robot under the same budget,",
            "and learn from what the robot did.",
            "",
            "commands:",
            *lines,
            "",
            "holdfast COMMAND --help lists a command's options with units and defaults;",
            "holdfast --version prints the version.",
            "exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: what follows the program's name; the process's own arguments if None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text(), file=sys.stdout if arguments else sys.stderr)
        return OK if arguments else USAGE
    if arguments[0] == "--version":
        print(f"holdfast {__version__}")
        return OK
    for stream in (sys.stdout, sys.stderr):  # a path need not be of characters
        if isinstance(stream, io.TextIOWrapper):
            # A pipe gets each line when it is printed, as a terminal does.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    threading.excepthook = _thread_failed
    name, *options = arguments
    if name not in COMMANDS:
        return _complain(_unknown(name), USAGE)
    try:
        return _run(name, COMMANDS[name], options)
    except HoldfastError as error:
        return _complain(str(error), FAILED)
    except OSError as error:
        return _complain(_told(error), FAILED)
    except RuntimeError as error:  # so pathlib calls links in a circle, before Python 3.13
        if not str(error).startswith("Symlink loop"):
            raise
        return _complain(str(error), FAILED)
    except MemoryError:
        return _complain(f"{name} needs more memory than there is", FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _run(name: str, command: Command, options: Sequence[str]) -> int:
    try:
        import tyro

        from holdfast.options import RULES

        flat = (tyro.conf.OmitArgPrefixes,)  # --seed, wherever in the settings it belongs
        function = command.prepared(options)
        with RULES:
            status = tyro.cli(function, prog=f"holdfast {name}", args=options, config=flat)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "holdfast"):
            raise  # our own mistake, not a missing install
        wanted = how_to_install(OPTIONAL.get(package, command.extra))
        raise ConfigError(
            f"{name} needs the Python package '{package}', which is not installed: {wanted}"
        ) from None
    return OK if status is None else int(status)


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    guess = f"did you mean '{close[0]}'?" if close else f"commands are {', '.join(COMMANDS)}"
    return f"unknown command '{name}'; {guess}"


def _told(error: OSError) -> str:
    """Return what the operating system said in one sentence: of which file, and what."""
    if isinstance(error, BrokenPipeError) and error.filename is None:
        # Else Python complains again when it closes the output, at exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "whatever reads this program's output has ended"
    told = error.strerror or str(error) or type(error).__name__
    return told if error.filename is None else f"{os.fsdecode(error.filename)}: {told}"


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Say why a thread ended; TensorBoard's writes a file, and a disk may be full."""
    if isinstance(args.exc_value, OSError):
        _complain(_told(args.exc_value), FAILED)
    else:
        threading.__excepthook__(args)


def _complain(sentence: str, status: int) -> int:
    """Print one line; a file's name or text in it may be made of anything."""
    line = " ".join(sentence.splitlines())
    print(f"holdfast: {line}", file=sys.stderr)
    return status
