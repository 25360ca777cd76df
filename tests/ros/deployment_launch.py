"""A deployment on the twin: bring-up, arming, stops, parameters, and a deactivation on the way."""

from __future__ import annotations

import time

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rig import FOLDER, MONITOR, Case, described, include, log_dir, until

NODES = ("safety_monitor_node", "policy_node")


def generate_test_description():
    return described(
        include("twin"),
        include(
            "deploy",
            policy=str(FOLDER / "circle.onnx"),
            enable_motion="true",
            log_dir=log_dir("deployment"),
            hardware_id="unit-7",
        ),
    )


class Deployment(Case):
    """In this order, on one system."""

    def test_1_nodes_come_up_in_order(self, proc_output):
        self.client.up()
        until(lambda: self.client.lifecycle("/policy_node") == "active")
        said = "".join(str(output.text, "utf8") for output in proc_output)
        steps = [f"[{n}]: {s}" for n in NODES for s in ("configured", "active")]
        places = [said.find(step) for step in steps]
        self.assertNotIn(-1, places, said)
        self.assertEqual(places, sorted(places), said)
        self.assertNotIn("Traceback", said)

    def test_2_it_starts_stopped_and_says_zero(self):
        client = self.client
        client.up()
        client.until_state("STOPPED")
        until(lambda: len(client.commands) > 5)
        self.assertEqual(client.commanded(), 0.0)
        self.assertEqual(client.commands[-1].header.frame_id, "base_link")
        done, sentence = client.trigger(f"{MONITOR}/arm")
        self.assertFalse(done)
        self.assertIn("should be reset first", sentence)

    def test_3_it_drives_when_armed(self):
        self.client.drives()
        self.assertEqual(self.client.state, "ACTIVE")
        done, sentence = self.client.trigger(f"{MONITOR}/disarm")
        self.assertTrue(done, sentence)
        self.client.until_stands()
        self.client.until_state("READY")

    def test_4_the_emergency_stop_latches(self):
        client = self.client
        client.drives()
        self.assertTrue(client.trigger("hardware/e_stop_trigger")[0])
        until(lambda: client.e_stops and client.e_stops[-1])
        client.until_state("STOPPED")
        client.until_stands()
        done, sentence = client.trigger(f"{MONITOR}/reset")
        self.assertEqual((done, "hardware/e_stop" in sentence), (False, True))
        self.assertTrue(client.trigger("hardware/e_stop_reset")[0])
        until(lambda: not client.e_stops[-1])
        time.sleep(0.5)
        self.assertEqual(client.state, "STOPPED", "released, and yet it is stopped")
        client.ready()
        client.until_stands()

    def test_5_parameters_of_safety_are_fixed_while_it_is_active(self):
        self.client.up()
        value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False)
        request = SetParameters.Request(parameters=[Parameter(name="enable_motion", value=value)])
        (result,) = self.client.call(SetParameters, f"{MONITOR}/set_parameters", request).results
        self.assertFalse(result.successful)
        self.assertIn("enable_motion can only be set while the node is not active", result.reason)

    def test_6_parameters_describe_themselves(self):
        self.client.up()
        request = DescribeParameters.Request(names=["episodes", "policy"])
        answer = self.client.call(DescribeParameters, f"{MONITOR}/describe_parameters", request)
        episodes, policy = answer.descriptors
        self.assertEqual(episodes.integer_range[0].from_value, 1)
        self.assertIn("follow one another", episodes.description)
        self.assertIn("bundle", policy.description)

    def test_7_diagnostics_come_each_second_with_the_unit(self):
        client = self.client
        client.up()

        def own():
            return [d for d in client.diagnostics if d[1].name == "safety_monitor_node: state"]

        count = len(own())
        time.sleep(5.0)
        self.assertGreaterEqual(len(own()) - count, 4)
        self.assertEqual(own()[-1][1].hardware_id, "unit-7")

    def test_8_deactivated_on_the_way_it_stops(self):
        client = self.client
        client.drives()
        self.assertTrue(client.change(MONITOR, "deactivate"))
        until(lambda: client.commanded() == 0.0)
        client.until_stands()
        count = len(client.commands)
        time.sleep(0.5)
        self.assertEqual(len(client.commands), count, "who is not active says nothing")
        self.assertEqual(client.lifecycle(MONITOR), "inactive", "and nobody activates it again")
