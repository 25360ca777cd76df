"""How fast the run loop goes in lockstep, and where a period's time goes.

    python -m benchmarks.run_loop [--policy B.onnx] [--episodes 20]

It runs the product: a twin in its process, the policy in its own, the monitor and the log. Each
section's time is taken around the call it stands for; the writer's thread is not among them,
but competes with all. CPU times are of whole processes, start-up included.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from holdfast import child
from holdfast.bundle.reader import Bundle
from holdfast.log.writer import Recorder
from holdfast.robot.run import deploy
from holdfast.robot.run.by_count import EpisodesByCount
from holdfast.robot.run.policy_process import PolicyProcess
from holdfast.robot.serial.robot import SerialRobot
from holdfast.safety_monitor.monitor import Monitor
from tests.helpers.data.bundles import write_bundle

SECTIONS: dict[str, tuple[type, str]] = {
    "await the twin": (SerialRobot, "now_s"),
    "wait": (SerialRobot, "wait"),
    "read": (SerialRobot, "readings"),
    "faults": (SerialRobot, "faults"),
    "observe": (Monitor, "observe"),
    "ask the policy": (PolicyProcess, "ask"),
    "cost-to-go": (Bundle, "cost_to_go"),
    "await its proposal": (PolicyProcess, "answer"),
    "judge": (Monitor, "step"),
    "send": (SerialRobot, "send"),
    "record": (Recorder, "step"),
    "whole period": (EpisodesByCount, "_period"),
}


def timed(function: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            into.append(time.perf_counter() - start)

    return call


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def default_bundle(folder: Path) -> Path:
    return write_bundle(folder / "policy.onnx", action=(0.5, 1.0), log_std=-2.0)


def main(policy: Path | None = None, episodes: int = 20, explore: bool = True) -> None:
    times: dict[str, list[float]] = {name: [] for name in SECTIONS}
    for name, (owner, method) in SECTIONS.items():
        setattr(owner, method, timed(getattr(owner, method), times[name]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        twin = child.start(
            "holdfast",
            *("twin", "--realtime-factor", "0"),
            at_end=signal.SIGTERM,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert twin.stdout is not None
        settings = deploy.Settings(
            robot=twin.stdout.readline().strip(),
            policy=policy or default_bundle(folder),
            episodes=episodes,
            explore=explore,
            out=folder / "run",
        )
        deploy.command(settings)
        twin_cpu_s, usages = cpu_s(twin.pid), {}
        for who, number in (
            ("monitor", resource.RUSAGE_SELF),
            ("policy", resource.RUSAGE_CHILDREN),
        ):
            usages[who] = resource.getrusage(number)
        twin.terminate()
        twin.wait()
    whole = np.array(times["whole period"])
    print(f"\n{len(whole)} periods, load average {os.getloadavg()[0]:.1f}")
    print(f"{'section':22}{'median us':>10}{'mean us':>10}{'p99 us':>10}{'share':>8}")
    for name, values in times.items():
        us = np.array(values) * 1e6
        share = us.sum() / (whole.sum() * 1e6)
        print(
            f"{name:22}{np.median(us):10.0f}{us.mean():10.0f}{np.quantile(us, 0.99):10.0f}"
            f"{share:8.0%}"
        )
    print(f"{1.0 / whole.mean():.0f} steps/s")
    for who, usage in usages.items():
        print(f"CPU, {who}'s process: {usage.ru_utime + usage.ru_stime:.2f} s")
    print(f"CPU, twin's process: {twin_cpu_s:.2f} s")


if __name__ == "__main__":
    tyro.cli(main)
