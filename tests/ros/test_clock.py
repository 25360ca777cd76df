"""Clocks that jump: simulated time, and the computer's own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock

from tests.helpers.ros.system import MONITOR, POLICY, TWIN, Node, system, until

pytestmark = pytest.mark.alone

CIRCLE = {"policy": "circle.onnx"}
DRIVE = {**CIRCLE, "enable_motion": True, "record": False}


class Hours:
    """Simulated time, at 100 Hz, that jumps when told to."""

    def __init__(self, client):
        self.publisher = client.node.create_publisher(Clock, "/clock", 10)
        self.shift_s = 100_000.0 - time.monotonic()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.tick, daemon=True)
        self.thread.start()

    def tick(self):
        while not self.ending.wait(0.01):
            sec, nanosec = divmod(int((time.monotonic() + self.shift_s) * 1e9), 10**9)
            self.publisher.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))


@pytest.mark.parametrize("jump_s", [-3.0, -3600.0])
def test_simulated_time_jumps_back(folder, jump_s):
    """At once a stop that is latched and zero, again and again; then all answers."""
    simulated = {"use_sim_time": True}
    nodes = (
        (TWIN, {"scan_rays": 0, **simulated}),
        (MONITOR, {**DRIVE, **simulated}),
        (POLICY, {**CIRCLE, **simulated}),
    )
    with system(folder, f"jump{int(-jump_s)}") as (client, made):
        hours = Hours(client)
        try:
            for name, given in nodes:
                made[name] = Node(name, folder, f"jump{int(-jump_s)}", **given)
            client.bring_up(*made)
            client.drives()
            count = len(client.commands)
            begun_s = time.monotonic()
            hours.shift_s += jump_s
            client.until_state("STOPPED")
            assert time.monotonic() - begun_s < 1.0
            until(lambda: len(client.commands) > count and client.commanded() == 0.0)
            client.until_stands()
            count = len(client.commands)
            until(lambda: len(client.commands) > count + 5, limit_s=3.0)
            assert client.commanded() == 0.0, "it does not drive on without a reset"
            assert client.ask("disarm", limit_s=9.0)[0]
            client.drives()
            hours.shift_s += jump_s
            client.until_state("STOPPED")
            assert client.change(MONITOR, "deactivate")
        finally:
            hours.ending.set()
            hours.thread.join()


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
#include <stdlib.h>
/* The computer's clock, an hour back from when the file exists. */
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, now);
    if (id == CLOCK_REALTIME && access(getenv("SHIFTED"), F_OK) == 0) now->tv_sec -= 3600;
    return status;
}
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """A library that sets the clock of a process back."""
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "clock.c").write_text(SHIM)
    library = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "clock.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


def test_the_clock_of_the_monitor_is_set_back(folder, shim, monkeypatch):
    """By an hour, while it drives: it stops, answers, is deactivated and ended as ever."""
    shifted = folder / "shifted"
    shifted.unlink(missing_ok=True)
    nodes = (TWIN, {"scan_rays": 0}), (POLICY, CIRCLE)
    with system(folder, "set_back", *nodes) as (client, made):
        monkeypatch.setenv("LD_PRELOAD", str(shim))
        monkeypatch.setenv("SHIFTED", str(shifted))
        made[MONITOR] = monitor = Node(MONITOR, folder, "set_back", **DRIVE)
        monkeypatch.undo()
        client.bring_up(MONITOR)
        client.drives()
        shifted.touch()
        client.until_state("STOPPED")
        client.until_stands()
        assert client.ask("disarm", limit_s=9.0)[0]
        client.ask("reset", limit_s=9.0)
        client.diagnostics.clear()
        until(lambda: any(MONITOR in status.name for status in client.diagnostics), limit_s=5.0)
        assert client.change(MONITOR, "deactivate")
        assert client.change(MONITOR, "activate")
        monitor.signal(signal.SIGINT)
        assert monitor.ended(15.0) == 0
