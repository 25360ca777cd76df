"""Proposals of anybody: a teleoperation that the monitor watches without a policy or a bundle."""

from __future__ import annotations

import math
import threading
import time

from geometry_msgs.msg import TwistStamped
from rig import FOLDER, MONITOR, Case, described, include, log_dir, until


def generate_test_description():
    return described(
        include("twin"),
        include(
            "deploy",
            policy=str(FOLDER / "contract.yaml"),
            proposals="anybody",
            enable_motion="true",
            log_dir=log_dir("anybody"),
        ),
    )


class Anybody(Case):
    def setUp(self):
        super().setUp()
        self.speed, self.ahead_s, self.stamped = 0.0, 0.0, True
        self.publish = self.client.node.create_publisher(TwistStamped, "cmd_vel_proposed", 10)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.steer, daemon=True)
        self.thread.start()

    def tearDown(self):
        self.ending.set()
        self.thread.join()
        super().tearDown()

    def steer(self):
        while not self.ending.wait(0.05):
            message = TwistStamped()
            if self.stamped:
                now_ns = self.client.node.get_clock().now().nanoseconds + int(self.ahead_s * 1e9)
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
            message.twist.linear.x = self.speed
            self.publish.publish(message)

    def moving(self):
        client = self.client
        self.speed = 0.0
        client.up()
        if client.state in ("ACTIVE", "LIMITED"):
            client.trigger(f"{MONITOR}/disarm")
        until(lambda: client.trigger(f"{MONITOR}/reset")[0])
        done, sentence = client.trigger(f"{MONITOR}/arm")
        self.assertTrue(done, sentence)
        self.speed = 0.2
        until(lambda: client.speed() > 0.15)

    def stopped_by(self, code):
        self.client.until_state("STOPPED")
        until(lambda: code in self.client.codes)
        self.client.until_stands()

    def test_1_who_steers_is_let_through(self):
        self.moving()
        self.speed = -0.2
        until(lambda: self.client.commands[-1].twist.linear.x < -0.15)
        self.client.trigger(f"{MONITOR}/disarm")
        self.client.until_stands()

    def test_2_a_zero_stamp_means_now(self):
        self.stamped = False
        self.moving()
        time.sleep(1.0)
        self.assertIn(self.client.state, ("ACTIVE", "LIMITED"))
        self.client.trigger(f"{MONITOR}/disarm")

    def test_3_nan_stops(self):
        self.moving()
        self.speed = math.nan
        self.stopped_by("proposal_not_finite")

    def test_4_a_stamp_from_the_future_stops(self):
        self.moving()
        self.ahead_s = 5.0
        self.stopped_by("proposal_future")

    def test_5_a_stamp_from_the_past_is_nobody_steering(self):
        self.moving()
        self.ahead_s = -5.0
        until(lambda: self.client.commanded() == 0.0)
        self.client.until_stands()

    def test_6_a_reset_is_refused_while_somebody_steers(self):
        self.moving()
        self.client.trigger("hardware/e_stop_trigger")
        self.stopped_by("device_fault")
        done, sentence = self.client.trigger("hardware/e_stop_reset")
        if not done:  # the driver hears commands of zero, and so agrees
            self.fail(sentence)
        done, sentence = self.client.trigger(f"{MONITOR}/reset")
        self.assertFalse(done)
        self.assertIn("not zero", sentence)
