"""Whoever dies or lies, the robot stops; nothing but a person's reset and arming moves it again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from tests.helpers.ros.system import (
    BASE,
    DRIVES,
    MONITOR,
    POLICY,
    TWIN,
    Node,
    environment,
    system,
    until,
)

pytestmark = pytest.mark.alone

CIRCLE = {"policy": "circle.onnx"}
DRIVE = {**CIRCLE, "enable_motion": True, "record": False}


@pytest.fixture(scope="module")
def deployment(folder):
    nodes = (TWIN, {"scan_rays": 0}), (MONITOR, DRIVE), (POLICY, CIRCLE)
    with system(folder, "faults", *nodes) as made:
        yield made


@pytest.fixture
def client(deployment):
    deployment[0].drives()
    return deployment[0]


@pytest.fixture
def nodes(deployment):
    return deployment[1]


def stays_stopped(client, codes):
    client.until_state("STOPPED")
    assert codes in client.codes
    until(lambda: client.commanded() == 0.0)
    client.until_stands()
    assert not client.ask("arm")[0]


def test_the_policy_hangs(client, nodes):
    nodes[POLICY].signal(signal.SIGSTOP)
    client.until_stands()
    stays_stopped(client, "proposal_")
    nodes[POLICY].signal(signal.SIGCONT)
    time.sleep(0.5)
    assert client.state == "STOPPED", "that it answers again moves nothing"


def test_the_monitor_hangs(client, nodes):
    nodes[MONITOR].signal(signal.SIGSTOP)
    client.until_stands()
    nodes[MONITOR].signal(signal.SIGCONT)
    client.until_state("STOPPED")
    client.until_stands()


def test_the_robot_hangs(client, nodes):
    nodes[TWIN].signal(signal.SIGSTOP)
    stopped(client, "source_")
    nodes[TWIN].signal(signal.SIGCONT)
    client.until_stands()


def stopped(client, *codes):
    """Wait for a stop for one of these codes: which of two faults is seen first, varies."""
    client.until_state("STOPPED")
    assert any(code in client.codes for code in codes)
    until(lambda: client.commanded() == 0.0)


def test_the_policy_is_killed(client, nodes, folder):
    """The last of these: another one would find what is left of it in the graph for a while."""
    nodes[POLICY].signal(signal.SIGKILL)
    stays_stopped(client, "proposal_")
    nodes[POLICY].ended()


def test_a_policy_that_says_nan(folder):
    nan = {"policy": "nan.onnx"}
    nodes = (TWIN, {"scan_rays": 0}), (MONITOR, {**DRIVE, **nan}), (POLICY, nan)
    with system(folder, "nan", *nodes) as (client, _):
        client.drives()

        def said():
            if "proposal_not_finite" not in client.codes and client.state not in DRIVES:
                client.drives()  # a stall of this computer stopped it before it came so far
            return "proposal_not_finite" in client.codes

        until(said)
        stays_stopped(client, "proposal_not_finite")


@pytest.fixture(params=["monitor_killed", "driver_interrupted", "emergency_stop", "twin_ends"])
def ending(request):
    return request.param


def test_behind_the_serial_link(folder, ending):
    """A twin under base_node: the driver's own limits, and an orderly end."""
    twin = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "twin", "--link", str(folder / f"port-{ending}")],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert twin.stdout.readline().startswith("serial:")
        base = {"port": str(folder / f"port-{ending}")}
        nodes = (BASE, base), (MONITOR, DRIVE), (POLICY, CIRCLE)
        with system(folder, f"link_{ending}", *nodes) as (client, made):
            client.drives()
            assert client.odometry[-1].header.frame_id == "odom"
            if ending == "monitor_killed":
                made[MONITOR].signal(signal.SIGKILL)
                client.until_stands()
            elif ending == "driver_interrupted":
                made[BASE].signal(signal.SIGINT)
                assert made[BASE].ended() == 0
                stopped(client, "source_", "device_fault")
            elif ending == "twin_ends":
                twin.send_signal(signal.SIGKILL)
                stopped(client, "source_")
                until(lambda: "lost" in made[BASE].said() or "[ERROR]" in made[BASE].said())
                assert "deactivate, clean up and configure again" in made[BASE].said()
            else:
                assert client.trigger("hardware/e_stop_trigger")[0]
                stays_stopped(client, "device_fault")
                done, sentence = client.trigger("hardware/e_stop_reset")
                assert done, sentence
                client.drives()
        killed = {"monitor_killed": MONITOR}.get(ending)
        assert {made[n].process.returncode for n in made if n != killed} == {0}
    finally:
        twin.send_signal(signal.SIGINT)
        twin.communicate(timeout=20)


@pytest.fixture(scope="module")
def driven(folder):
    nodes = (TWIN, {"scan_rays": 0}), (POLICY, CIRCLE)
    with system(folder, "ends", *nodes) as made:
        yield made


NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"


def test_a_log_that_finds_no_room_is_what_the_stop_is_for(driven, folder):
    """No file of this process may grow further; that is said, and why it cannot be armed again."""
    client, _ = driven
    log = {"record": True, "log_dir": f"no-room-{time.time_ns()}"}
    client.statuses.clear()  # before the node starts: it repeats none that was heard
    monitor = Node(MONITOR, folder, "ends", before=NO_ROOM, **{**DRIVE, **log})
    try:
        client.bring_up(MONITOR)
        client.drives()

        def no_room() -> bool:
            drives = client.state in DRIVES
            said = any("File too large" in status.message for status in client.statuses)
            if not (drives or said):  # a stall of the computer stopped it: nothing more is logged
                client.drives()
            return said

        until(no_room)
        assert "log_lost" in client.codes
        client.until_stands()
        client.ready()
        done, sentence = client.ask("arm")
        assert not done
        assert "File too large" in sentence
        assert "deactivate and activate again" in sentence
    finally:
        monitor.close()


ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDINGS, ids=lambda n: n.name)
def test_whatever_ends_the_monitor_the_last_command_is_zero(driven, folder, number):
    client, _ = driven
    client.statuses.clear()
    monitor = Node(MONITOR, folder, "ends", **DRIVE)
    try:
        client.bring_up(MONITOR)
        client.drives()
        begun_s = time.monotonic()
        monitor.signal(number)
        until(lambda: client.commanded() == 0.0)
        zero_s = client.heard_s[-1] - begun_s
        assert monitor.ended() == 0
        assert time.monotonic() - begun_s < 3.0
        assert zero_s < 0.5, "the driver alone would need its time limit"
        assert client.commanded() == 0.0
        client.until_stands()
        assert "Traceback" not in monitor.said()
    finally:
        monitor.close()
