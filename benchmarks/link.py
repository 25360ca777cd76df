"""Measure the link through a real pty: steps per second in lockstep, round trips in real time.

Run: python -m benchmarks.link. Both processes share the machine with whatever else runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np

from holdfast import child
from holdfast.robot.serial import device
from holdfast.robot.serial.robot import SerialRobot

ACTION = np.array([0.8, 0.5])


def lockstep(robot: SerialRobot, steps: int) -> None:
    robot.reset()
    robot.arm()
    rates = []
    for _ in range(5):
        start_s, cpu_s, now_s = time.perf_counter(), time.process_time(), robot.now_s()
        for k in range(1, steps + 1):
            robot.read()
            robot.send(ACTION, 0.1)
            robot.wait(now_s + k * 0.05)
        took_s = time.perf_counter() - start_s
        rates.append(steps / took_s)
        host_us = (time.process_time() - cpu_s) / steps * 1e6
    print(
        f"lockstep: {np.median(rates):.0f} steps/s (median of {len(rates)} x {steps}; "
        f"least {min(rates):.0f}, most {max(rates):.0f}); host {host_us:.0f} us CPU per step"
    )


def real_time(robot: SerialRobot, rounds: int) -> None:
    """STATE asked for and answered: encode, pty, device, pty, decode."""
    took_us, ages_ms = [], []
    for _ in range(rounds):
        robot.wait(robot.now_s() + 0.013)
        ages_ms.append((robot.now_s() - robot.read().stamp_s) * 1e3)
        start_s = time.perf_counter()
        sequence = robot._write(device.STATE)
        while robot._newest.heard < sequence:
            robot._pump(0.1)
        took_us.append((time.perf_counter() - start_s) * 1e6)
    half, most, all_ = np.percentile(took_us, [50, 99, 100])
    print(f"real time: round trip {half:.0f} us median, {most:.0f} us p99, {all_:.0f} us most")
    half, most, all_ = np.percentile(ages_ms, [50, 99, 100])
    print(
        f"real time: age of a reading {half:.1f} ms median, {most:.1f} ms p99, {all_:.1f} ms most"
    )


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for factor, measure, n in ((0, lockstep, 2000), (1, real_time, 400)):
        twin = child.start(
            "holdfast",
            *("twin", "--realtime-factor", str(factor)),
            at_end=signal.SIGTERM,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert twin.stdout is not None
            robot = SerialRobot.connect(twin.stdout.readline().strip())
            measure(robot, n)
            robot.close()
        finally:
            twin.terminate()
            twin.wait()


if __name__ == "__main__":
    main()
