"""The ROS 2 of this computer, for tests that need a real one; they are skipped without it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RMWS = ("rmw_cyclonedds_cpp", "rmw_fastrtps_cpp")


@cache
def sourced() -> str:
    """Return where a ROS 2 with its tools is: what is sourced, or the newest under /opt/ros."""
    found = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    places = [*filter(None, found), *map(str, sorted(Path("/opt/ros").glob("*"), reverse=True))]
    for place in places:
        if (Path(place) / "setup.bash").is_file() and (Path(place) / "share/rclpy").is_dir():
            return place
    pytest.skip("there is no ROS 2 with launch and tools here, sourced or in /opt/ros")


@cache
def middlewares() -> list[str]:
    """Return those of RMWS that the ROS 2 of this computer has: Fast DDS alone by default."""
    return [rmw for rmw in RMWS if (Path(sourced()) / "share" / rmw).is_dir()]


@cache
def share(package: str) -> Path:
    """Return where a package's files are: in a ROS 2 with tools, or in the extra `ros`.

    Skips the test if there is no such package.
    """
    if (Path(sys.prefix) / "share" / package / "package.xml").is_file():
        return Path(sys.prefix) / "share" / package
    folder = Path(sourced()) / "share" / package
    return folder if folder.is_dir() else pytest.skip(f"{package} is not installed")


@cache
def environment(setup: str = "") -> dict[str, str]:
    """Return the environment that ROS's setup script makes, and another's if one is named.

    Skips the test if this interpreter cannot use it.
    """
    scripts = [f"{sourced()}/setup.bash", *filter(None, (setup,))]
    sourcing = " && ".join(f". {script}" for script in scripts)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("COLCON_", "AMENT_"))}
    said = subprocess.run(
        ["bash", "-c", f"{sourcing} && env -0"], env=clean, capture_output=True, check=True
    ).stdout.decode()
    found = dict(entry.partition("=")[::2] for entry in said.split("\0") if entry)
    found["ROS_PYTHON_CHECK_FIELDS"] = "1"
    probe = subprocess.run(
        [sys.executable, "-c", "import rclpy, nav_msgs.msg, launch_ros"],
        env=found,
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"this Python cannot use {sourced()}: {probe.stderr.splitlines()[-1]}")
    return found
