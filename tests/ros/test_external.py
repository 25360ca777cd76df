"""Proposals of others: a teleoperation that the monitor watches without a policy or a bundle."""

from __future__ import annotations

import math
import threading
import time

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from geometry_msgs.msg import TwistStamped

from tests.helpers.ros.system import DRIVES, MONITOR, TWIN, system, until

pytestmark = pytest.mark.alone


class Teleoperation:
    """Somebody who steers, at 20 Hz."""

    def __init__(self, client):
        self.node = client.node
        self.speed, self.ahead_s, self.stamped, self.says = 0.0, 0.0, True, False
        self.publisher = None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.steer, daemon=True)
        self.thread.start()

    def steer(self):
        while not self.ending.wait(0.05):
            if self.publisher is None and self.says:
                self.publisher = self.node.create_publisher(TwistStamped, "cmd_vel_proposed", 10)
            if not self.says:
                continue
            message = TwistStamped()
            if self.stamped:
                now_ns = self.node.get_clock().now().nanoseconds + int(self.ahead_s * 1e9)
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
            message.twist.linear.x = self.speed
            self.publisher.publish(message)


@pytest.fixture(scope="module")
def deployment(folder):
    given = {
        "policy": "contract.yaml",
        "proposals": "external",
        "enable_motion": True,
        "record": False,
    }
    nodes = (TWIN, {"scan_rays": 0}), (MONITOR, given)
    with system(folder, "external", *nodes) as (client, _):
        steering = Teleoperation(client)
        yield client, steering
        steering.ending.set()
        steering.thread.join()


@pytest.fixture
def client(deployment):
    return deployment[0]


@pytest.fixture
def steering(deployment):
    who = deployment[1]
    who.speed, who.ahead_s, who.stamped = 0.0, 0.0, True
    return who


def moving(client, steering):
    """Somebody steers, and the robot moves; anew where a stall of this computer stopped it."""
    steering.says = True
    client.ask("disarm")

    def moves():
        if client.state not in DRIVES:
            steering.speed = 0.0
            client.ready()
            client.ask("arm")
            time.sleep(0.1)
        steering.speed = 0.2
        return client.state in DRIVES and client.speed() > 0.15

    until(moves)


def stopped_by(client, code):
    client.until_state("STOPPED")
    until(lambda: code in client.codes)
    client.until_stands()


def test_nobody_there_is_said(client):
    """Before anybody steered."""

    def said():
        return [d for d in client.diagnostics if d.name == f"external/{MONITOR}: state"]

    client.diagnostics.clear()
    until(said)
    assert "nobody publishes /external/cmd_vel_proposed" in said()[-1].message


def test_who_steers_is_let_through(client, steering):
    moving(client, steering)
    steering.speed = -0.2
    until(lambda: client.commands[-1].twist.linear.x < -0.15)
    client.ask("disarm")
    client.until_stands()
    client.diagnostics.clear()
    until(lambda: client.diagnostics)
    assert not any("nobody publishes" in d.message for d in client.diagnostics)


def test_a_zero_stamp_means_now(client, steering):
    steering.stamped = False
    moving(client, steering)
    time.sleep(0.5)
    assert "proposal" not in client.codes  # a stall of this computer may stop it, but no stamp
    client.ask("disarm")


def test_nan_stops(client, steering):
    moving(client, steering)
    steering.speed = math.nan
    stopped_by(client, "proposal_not_finite")


def test_a_stamp_from_the_future_stops(client, steering):
    moving(client, steering)
    steering.ahead_s = 5.0
    stopped_by(client, "proposal_future")


def test_a_stamp_from_the_past_is_nobody_steering(client, steering):
    moving(client, steering)
    steering.ahead_s = -5.0
    until(lambda: client.commanded() == 0.0)
    client.until_stands()


def test_a_reset_is_refused_while_somebody_steers(client, steering):
    def refused():
        """Anew where a stall of this computer hid who steers, so that the reset was granted."""
        moving(client, steering)
        client.trigger("hardware/e_stop_trigger")
        stopped_by(client, "device_fault")
        done, sentence = client.trigger("hardware/e_stop_reset")
        assert done, sentence  # the driver hears commands of zero, and so agrees
        while not (answer := client.ask("reset"))[0]:
            if "not zero" in answer[1]:
                return True
            time.sleep(0.05)  # a busy computer may refuse for an old reading meanwhile
        return False

    until(refused)
