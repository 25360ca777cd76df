"""Whoever dies or lies, the robot stops; nothing but a person's reset and arming moves it again."""

from __future__ import annotations

import signal
import time

import launch_testing
from rig import FOLDER, MONITOR, Case, described, include, kill, log_dir, until

POLICY = "policy_node"
FAULTS = {
    "policy_killed": lambda: kill(POLICY, signal.SIGKILL),
    "policy_hung": lambda: kill(POLICY, signal.SIGSTOP),
    "policy_says_nan": lambda: None,  # by itself, after a second
    "monitor_hung": lambda: kill("safety_monitor_node", signal.SIGSTOP),
    "monitor_killed": lambda: kill("safety_monitor_node", signal.SIGKILL),
}


@launch_testing.parametrize("fault", list(FAULTS))
def generate_test_description(fault):
    policy = "nan.onnx" if fault == "policy_says_nan" else "circle.onnx"
    return described(
        include("twin"),
        include(
            "deploy",
            policy=str(FOLDER / policy),
            enable_motion="true",
            log_dir=log_dir(fault),
        ),
    )


class Fault(Case):
    def test_it_stops(self, fault):
        client = self.client
        client.drives()
        FAULTS[fault]()
        client.until_stands()
        if fault == "monitor_hung":
            kill("safety_monitor_node", signal.SIGCONT)
            client.until_state("STOPPED")
            client.until_stands()
        if fault.startswith("policy"):
            client.until_state("STOPPED")
            wanted = "proposal_not_finite" if fault == "policy_says_nan" else "proposal_"
            self.assertIn(wanted, client.codes)
            until(lambda: client.commanded() == 0.0)
        if fault == "policy_hung":
            kill(POLICY, signal.SIGCONT)
            time.sleep(1.0)
            self.assertEqual(client.state, "STOPPED", "that it answers again moves nothing")
        if fault != "monitor_killed":
            self.assertFalse(client.trigger(f"{MONITOR}/arm")[0])
        client.until_stands()
