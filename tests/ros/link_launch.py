"""A twin behind the serial link, under base_node: the driver's own limits, and an orderly end."""

from __future__ import annotations

import signal
import time
import unittest

import launch_testing
from rig import FOLDER, MONITOR, Case, described, include, kill, log_dir, until


@launch_testing.parametrize("ending", ["monitor_killed", "driver_interrupted", "twin_pulled"])
def generate_test_description(ending):
    return described(
        include(
            "hil",
            policy=str(FOLDER / "circle.onnx"),
            port=str(FOLDER / f"port-{ending}"),
            log_dir=log_dir(ending),
        )
    )


class Link(Case):
    def test_the_driver_stops_the_robot(self, ending):
        client = self.client
        client.up()
        for node in ("/base_node", MONITOR, "/policy_node"):
            until(lambda n=node: client.lifecycle(n) == "active")
        client.drives()
        self.assertTrue(client.odometry[-1].header.frame_id == "odom")
        if ending == "monitor_killed":
            kill("safety_monitor_node", signal.SIGKILL)
            client.until_stands()
        elif ending == "driver_interrupted":
            kill("base_node", signal.SIGINT)
            until(lambda: client.state == "STOPPED" or client.speed() < 0.02)
        else:
            self.assertTrue(client.trigger("hardware/e_stop_trigger")[0])
            client.until_state("STOPPED")
            client.until_stands()
            done, sentence = client.trigger("hardware/e_stop_reset")
            self.assertTrue(done, sentence)
            client.drives()
            time.sleep(0.2)


@launch_testing.post_shutdown_test()
class End(unittest.TestCase):
    def test_nodes_end_well(self, proc_info, ending):
        killed = {"monitor_killed": "safety_monitor_node"}.get(ending)
        for name in proc_info.process_names():
            if killed is None or killed not in name:
                code = proc_info[name].returncode
                self.assertIn(code, (0, -signal.SIGINT) if "twin" in name else (0,), name)
