"""The command line: `holdfast COMMAND ...`.

A command is a function; tyro reads its signature and docstring. Modules are imported only
when their command runs, so that a robot needs nothing that only training uses.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from holdfast import __version__, how_to_install
from holdfast.errors import ConfigError, HoldfastError
from holdfast.plain import meant, printable

OPTIONAL = {
    "cyclonedds": "dds",
    "pyarrow": "parquet",
    "ray": "ray",
    "mujoco_warp": "warp",
    "warp": "warp",
}
"""Packages that a command needs only with certain options, each with the extra that installs it."""

PARAGRAPHS = (
    "Train a policy under a cost budget, run it on a robot under this budget, and learn from the "
    "robot's logs.",
    "holdfast COMMAND --help lists a command's options with units and defaults.",
    "holdfast --version prints the version.",
    "holdfast --tyro-write-completion bash FILE writes completions for a shell.",
    "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.",
)
"""What `holdfast --help` says before and after the commands."""

COMPLETION = ("--tyro-write-completion", "--tyro-print-completion")
"""Options of tyro that make a shell's completion, of all commands."""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """A command: the function that runs it, and what the help text shows.

    Attributes:
        target: "module:function"; the function may return an exit status.
        summary: one line for `holdfast --help`.
        extra: the pip extra that installs the command's imports; "" is the base install.
        defaults: "module:function" that takes the options and returns default arguments of the
            target, where these depend on the options (as on a preset); "" where none do.
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
    "demo": Command(
        "holdfast.policy.demo.demo:command",
        "run the whole loop on a twin, from training to promotion",
        "train",
    ),
    "init": Command(
        "holdfast.sim.new_robot.command:command",
        "write the first files of a robot of your own, from its model",
        "train",
    ),
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
    "adopt": Command(
        "holdfast.policy.adopt.adopt:command",
        "make a bundle of an ONNX policy that was trained elsewhere",
        "train",
    ),
    "verify": Command(
        "holdfast.policy.ship.verify:command", "check a bundle against its training state", "train"
    ),
    "twin": Command(
        "holdfast.sim.twin.serve:command",
        "serve a simulated robot on a serial port or in a ROS graph",
        "train",
    ),
    "deploy": Command(
        "holdfast.robot.run.deploy:command",
        "run a bundle on a robot behind the safety monitor, and log the run",
    ),
    "promote": Command(
        "holdfast.robot.promote.promote:promote",
        "promote a policy on a robot after its trial, or begin the trial",
    ),
    "hold": Command(
        "holdfast.robot.promote.promote:hold", "let a policy not run any more, or release it"
    ),
    "rollback": Command(
        "holdfast.robot.promote.promote:rollback", "go back to the previous policy of a robot"
    ),
    "receipts": Command(
        "holdfast.robot.promote.receipts:command", "show what ran on a robot, and who let it"
    ),
    "key": Command("holdfast.registry.keys:key", "make a key pair for signing bundles"),
    "sign": Command("holdfast.registry.keys:sign", "sign a bundle for robots that trust the key"),
    "replay": Command(
        "holdfast.robot.run.replay:command", "replay a log through the safety monitor"
    ),
    "logs": Command("holdfast.log.listing:command", "list many runs: costs, stops, gaps in time"),
    "watch": Command(
        "holdfast.robot.view.watch:command",
        "show a run or a training in the browser, live or afterwards",
    ),
    "show": Command(
        "holdfast.robot.view.show:command", "print and draw the results of runs, or compare two"
    ),
    "render": Command(
        "holdfast.sim.render:command", "write a logged episode as a moving picture", "train"
    ),
    "identify": Command(
        "holdfast.policy.identify:command",
        "find parameters of a robot's model in its logs",
        "train",
    ),
    "finetune": Command(
        "holdfast.policy.improve.finetune:command", "fine-tune a policy on logged runs", "train"
    ),
    "improve": Command(
        "holdfast.policy.improve.improve:command",
        "train a policy on in the simulator that was identified",
        "train",
    ),
    "gate": Command(
        "holdfast.policy.improve.gate:command",
        "say whether logs speak against trying a child policy",
        "train",
    ),
    "report": Command(
        "holdfast.policy.demo.report:command", "write the page of a demo again", "train"
    ),
    "reproduce": Command(
        "holdfast.policy.reproduce:command",
        "compare training algorithms over tasks and seeds",
        "train",
    ),
    "experiment": Command(
        "holdfast.policy.experiment.sim2real:command",
        "measure what each part of the loop is worth, on many twins",
        "train",
    ),
    "doctor": Command("holdfast.doctor:command", "print what is installed and whether it works"),
}


def help_text() -> str:
    """Return what `holdfast --help` prints, in lines as long as the terminal is wide."""
    name_width = max(map(len, COMMANDS))
    width = max(shutil.get_terminal_size().columns, name_width + 20)
    commands = [
        textwrap.fill(
            command.summary,
            width,
            initial_indent=f"  {name:<{name_width}}  ",
            subsequent_indent=" " * (name_width + 4),
        )
        for name, command in COMMANDS.items()
    ]
    head, *tail = (textwrap.fill(paragraph, width) for paragraph in PARAGRAPHS)
    lines = ["usage: holdfast COMMAND [OPTIONS]", "", head, "", "commands:", *commands, "", *tail]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: the arguments after the program's name; None: those of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes that are no characters
        if isinstance(stream, io.TextIOWrapper):
            # A pipe gets each line when it is printed, as a terminal does.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    threading.excepthook = _thread_failed
    name, *options = arguments or ["--help"]
    try:
        if name in ("-h", "--help"):
            print(help_text(), file=sys.stdout if arguments else sys.stderr)
            return OK if arguments else USAGE
        if name == "--version":
            print(f"holdfast {__version__}")
            return OK
        if name in COMPLETION:
            return _complete(arguments)
        if name not in COMMANDS:
            return _complain(_unknown(name), USAGE)
        return _run(name, COMMANDS[name], options)
    except HoldfastError as error:
        return _complain(str(error), FAILED)
    except OSError as error:
        return _complain(_told(error), FAILED)
    except RuntimeError as error:  # pathlib's error for a circle of links, before Python 3.13
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

        from holdfast.options import rules

        flat = (tyro.conf.OmitArgPrefixes,)  # options have short names: --seed, not --settings.seed
        function = command.prepared(options)
        with rules(command.load()):
            status = tyro.cli(function, prog=f"holdfast {name}", args=options, config=flat)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "holdfast"):
            raise  # a mistake in Holdfast, not a missing package
        wanted = how_to_install(OPTIONAL.get(package, command.extra))
        raise ConfigError(
            f"{name} needs the Python package '{package}', which is not installed: {wanted}"
        ) from None
    return OK if status is None else int(status)


def _complete(arguments: Sequence[str]) -> int:
    """Let tyro make the completion of all commands for a shell; it exits by itself."""
    import tyro

    from holdfast.options import rules

    functions = {name: _completed(command) for name, command in COMMANDS.items()}
    flat = (tyro.conf.OmitArgPrefixes,)
    with rules():
        tyro.extras.subcommand_cli_from_dict(
            functions, prog="holdfast", args=arguments, config=flat
        )
    return OK


def _completed(command: Command) -> Callable[..., Any]:
    """Return the function whose options are completed; none where a package is missing."""
    try:
        return command.prepared(())
    except ModuleNotFoundError:

        def absent() -> None: ...

        absent.__doc__ = command.summary
        return absent


def _unknown(name: str) -> str:
    guess = meant(name, COMMANDS) or f"; commands are {', '.join(COMMANDS)}"
    return f"unknown command '{name}'{guess}"


def _told(error: OSError) -> str:
    """Return the operating system's error in one sentence, with the file's name."""
    if isinstance(error, BrokenPipeError) and error.filename is None:
        # Otherwise Python reports the error again when it closes the output at exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "the program that reads this output has ended"
    told = error.strerror or str(error) or type(error).__name__
    return told if error.filename is None else f"{os.fsdecode(error.filename)}: {told}"


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Print why a thread ended: TensorBoard's thread writes a file, and a disk may be full."""
    if isinstance(args.exc_value, OSError):
        _complain(_told(args.exc_value), FAILED)
    else:
        threading.__excepthook__(args)


def _complain(sentence: str, status: int) -> int:
    """Print the sentence as one line: a file's name or content in it may hold anything."""
    line = printable(" ".join(sentence.splitlines()))
    print(f"holdfast: {line}", file=sys.stderr)
    return status
