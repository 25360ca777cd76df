"""`holdfast doctor`: prints what is installed, and whether the robot side works."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from operator import eq, ge, gt, le, lt, ne

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast import DISTRIBUTION, __version__, how_to_install, share
from holdfast.errors import ConfigError

# y = x + x on two float32 values, as an ONNX file: enough to prove that ONNX Runtime loads,
# agrees with this NumPy and computes, without the onnx package, which robots do not have.
DOUBLING_ONNX = bytes.fromhex(
    "08073a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a02"
    "0802620f0a0179120a0a08080112040a02080242040a00100d"
)

# Packages whose import name differs from the name to install.
MODULES = {"pyserial": "serial", "pyyaml": "yaml"}

COMPARISONS = {">=": ge, "<=": le, "==": eq, "!=": ne, ">": gt, "<": lt}


@dataclass(frozen=True)
class Finding:
    """One row of the table; a `broken` row makes the exit status 1."""

    what: str
    found: str
    advice: str = ""
    broken: bool = False


def command() -> int:
    """Print what is installed and whether the robot side works; exit status 1 if it does not."""
    findings = [*machine(), *base_packages(), runtime(), share_folder(), training(), *around()]
    table = Table(title=f"holdfast {__version__}", title_justify="left")
    for heading in ("", "part", "found", "advice"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = "[red]broken[/]" if finding.broken else "[green]ok[/]"
        if finding.advice and not finding.broken:
            mark = "[yellow]note[/]"
        table.add_row(mark, *map(escape, (finding.what, finding.found, finding.advice)))
    console = Console()
    console.print(table)
    broken = sum(finding.broken for finding in findings)
    console.print(f"{broken} broken" if broken else "The robot side works.")
    return 1 if broken else 0


def machine() -> Iterator[Finding]:
    """Yield interpreter, operating system and the cores this process may use."""
    old = sys.version_info < (3, 10)
    advice = "Holdfast needs Python 3.10 or newer" if old else ""
    yield Finding("python", f"{platform.python_version()} at {sys.executable}", advice, old)
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    yield Finding("cores", str(cores))


def base_packages() -> Iterator[Finding]:
    """Yield the packages of the base install; each must be importable and new enough."""
    required = requirements("")
    if not required:
        yield Finding("holdfast", "no metadata", how_to_install(""), broken=True)
    for name, wanted in required.items():
        found, broken = f"{version(name)} (wants {wanted})", not satisfies(version(name), wanted)
        try:
            importlib.import_module(MODULES.get(name, name))
        except Exception as error:  # an import can fail with any error; each means broken
            found, broken = f"does not import: {error}", True
        yield Finding(name, found, f"pip install '{name}{wanted}'" if broken else "", broken)


def runtime() -> Finding:
    """Load and run a small network, as `holdfast deploy` does."""
    what = "ONNX Runtime"
    try:
        import numpy as np
        import onnxruntime

        session = onnxruntime.InferenceSession(DOUBLING_ONNX, providers=["CPUExecutionProvider"])
        given = np.array([0.25, -1.5], dtype=np.float32)
        (doubled,) = session.run(None, {"x": given})
    except Exception as error:  # this command reports any error
        return Finding(
            what, f"does not run: {error}", "reinstall onnxruntime and numpy", broken=True
        )
    if not np.array_equal(doubled, 2.0 * given):
        return Finding(what, f"computes wrongly: {doubled}", "reinstall onnxruntime", broken=True)
    return Finding(what, "runs")


def share_folder() -> Finding:
    """Find the folder with package.xml, launch and config files."""
    what = "launch and config files"
    try:
        return Finding(what, str(share.folder()))
    except ConfigError as error:
        return Finding(what, str(error), "reinstall holdfast", broken=True)


def training() -> Finding:
    """Return whether the packages for training are installed; a robot does not need them."""
    required = requirements("train")
    lacking = [name for name, wanted in required.items() if not satisfies(version(name), wanted)]
    if lacking:
        found = f"missing: {', '.join(lacking)}"
        return Finding("training", found, f"to train: {how_to_install('train')}")
    return Finding("training", ", ".join(f"{name} {version(name)}" for name in required))


def around() -> Iterator[Finding]:
    """Yield the optional parts: ROS 2, DDS, signatures, Ray, MuJoCo Warp and serial ports."""
    distribution = os.environ.get("ROS_DISTRO", "")
    if importlib.util.find_spec("rclpy"):
        yield Finding("ROS 2", distribution or "found")
    elif distribution:
        yield Finding("ROS 2", f"{distribution}, but this Python does not see rclpy")
    else:
        yield Finding("ROS 2", "not found (needed by the ROS nodes, not by dds: robots)")
    dds = version("cyclonedds")
    found = dds or "cyclonedds is not installed"
    yield Finding("DDS", found, "" if dds else how_to_install("dds"))
    signing = version("cryptography")
    found = signing or "cryptography is not installed"
    yield Finding("signatures", found, "" if signing else how_to_install("sign"))
    yield Finding("Ray", version("ray") or "not installed (needed by train --ray)")
    warp = version("mujoco-warp")
    yield Finding("MuJoCo Warp", warp or "not installed (needed by train --physics warp)")
    ports = serial_ports()
    if not ports:
        yield Finding("serial ports", "none visible")
    for port in ports:
        allowed = os.access(port, os.R_OK | os.W_OK)
        advice = "" if allowed else "no permission; on Linux join the group dialout"
        yield Finding("serial port", port, advice)


def serial_ports() -> list[str]:
    """Return the serial devices that pySerial finds; none if pySerial is missing."""
    try:
        from serial.tools import list_ports
    except ImportError:
        return []
    return sorted(port.device for port in list_ports.comports())


def requirements(extra: str) -> dict[str, str]:
    """Return the required version by package name, of the base install ("") or of an extra."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        named = re.search(r"extra\s*==\s*['\"](\w+)['\"]", marker)
        if (named.group(1) if named else "") == extra:
            match = re.match(r"\s*([\w.-]+)(?:\[[^]]*\])?\s*(.*)", requirement)
            assert match is not None, line
            found[match.group(1)] = match.group(2).strip()
    return found


def version(name: str) -> str:
    """Return the installed version, or "" if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def satisfies(found: str, wanted: str) -> bool:
    """Return whether a version meets "a>=1,!=2.0"-like bounds; "" (not installed) never does.

    Compares release numbers alone, which is what the bounds in setup.py are made of.
    """
    bounds = re.findall(r"([<>!=]=?)\s*([\d.]+)", wanted)
    return bool(found) and all(
        COMPARISONS[how](_release(found), _release(bound)) for how, bound in bounds
    )


def _release(text: str) -> tuple[int, ...]:
    """Return (1, 2, 0, 0) for "1.2rc1": four numbers, so that 1.2 equals 1.2.0."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    return tuple([*numbers, 0, 0, 0, 0][:4])
