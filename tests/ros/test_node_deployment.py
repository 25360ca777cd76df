"""A deployment on the twin: arming, stops, parameters, and a deactivation on the way."""

from __future__ import annotations

import math
import signal
import time

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import DescribeParameters
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from tests.helpers.ros.system import MONITOR, POLICY, TWIN, Node, system, until

pytestmark = pytest.mark.alone

NAMESPACE = "fleet/one"


@pytest.fixture(scope="module")
def deployment(folder):
    monitor = {
        "policy": "circle.onnx",
        "enable_motion": True,
        "log_dir": f"deployment-{time.time_ns()}",
        "hardware_id": "unit-7",
    }
    with system(
        folder,
        NAMESPACE,
        (TWIN, {"scan_rays": 36}),
        (MONITOR, monitor),
        (POLICY, {"policy": "circle.onnx"}),
    ) as made:
        yield made


@pytest.fixture
def client(deployment):
    client, _ = deployment
    until(lambda: client.statuses)
    if client.lifecycle(MONITOR) == "inactive":
        assert client.set(MONITOR, enable_motion=True)[0]
        assert client.change(MONITOR, "activate")
        client.until_state("STOPPED", "READY")
    return client


@pytest.fixture
def nodes(deployment):
    return deployment[1]


def test_it_starts_stopped_and_says_zero(client):
    client.until_state("STOPPED")
    until(lambda: len(client.commands) > 5)
    assert client.commanded() == 0.0
    assert client.commands[-1].header.frame_id == "base_link"
    done, sentence = client.ask("arm")
    assert not done
    assert "should be reset first" in sentence


def test_it_drives_when_armed(client, nodes):
    client.drives()
    assert client.state == "ACTIVE"
    done, sentence = client.ask("disarm")
    assert done, sentence
    client.until_stands()
    client.until_state("READY")
    paid = {v.key: v.value for v in client.statuses[-1].values}["return"]
    assert math.isfinite(float(paid))
    assert float(paid) != 0.0
    assert "[INFO]" in next(s for s in nodes[MONITOR].said().splitlines() if "]: ACTIVE" in s)


def test_the_emergency_stop_latches(client, nodes):
    client.drives()
    assert client.trigger("hardware/e_stop_trigger")[0]
    until(lambda: client.e_stops and client.e_stops[-1])
    client.until_state("STOPPED")
    client.until_stands()
    done, sentence = client.ask("reset")
    assert not done
    assert "hardware/e_stop" in sentence
    assert client.trigger("hardware/e_stop_reset")[0]
    until(lambda: not client.e_stops[-1])
    time.sleep(0.3)
    assert client.state == "STOPPED", "released, and yet it is stopped"
    client.ready()
    client.until_stands()
    said = nodes[MONITOR].said().splitlines()
    stops = [line for line in said if "]: STOPPED" in line and "not reset since" not in line]
    assert stops
    assert all("[ERROR]" in line for line in stops)


def test_parameters_of_safety_are_fixed_while_it_is_active(client):
    done, why = client.set(MONITOR, enable_motion=False)
    assert not done
    assert "enable_motion can only be set while the node is not active" in why


def test_parameters_describe_themselves(client):
    request = DescribeParameters.Request(names=["episodes", "policy"])
    answer = client.call(DescribeParameters, f"{MONITOR}/describe_parameters", request)
    episodes, policy = answer.descriptors
    assert episodes.integer_range[0].from_value == 1
    assert "follow one another" in episodes.description
    assert "bundle" in policy.description


def test_diagnostics_come_each_second_with_namespace_and_unit(client):
    def own():
        return [d for d in client.diagnostics if d.name == f"{NAMESPACE}/{MONITOR}: state"]

    count = len(own())
    time.sleep(3.5)
    assert len(own()) - count >= 3
    assert own()[-1].hardware_id == "unit-7"


def test_a_time_that_is_none_does_not_end_the_policy(client, nodes):
    publish = client.node.create_publisher(Float64MultiArray, "observation", 1)
    until(publish.get_subscription_count)
    message = Float64MultiArray(data=[math.nan, 1.0] + [0.0] * 9)
    message.layout.data_offset = 2
    for stamp in (math.nan, math.inf, -1.0, 1e300):
        message.data[0] = stamp
        publish.publish(message)
        time.sleep(0.05)
    until(lambda: "no observation of contract" in nodes[POLICY].said())
    assert client.lifecycle(POLICY) == "active"
    client.node.destroy_publisher(publish)
    time.sleep(0.2)
    client.drives()
    client.ask("disarm")


@pytest.mark.parametrize("node", [MONITOR, POLICY, TWIN])
def test_a_transition_that_is_none_kills_nobody(client, node):
    for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP, 77):
        request = ChangeState.Request()
        request.transition.id = number
        assert not client.call(ChangeState, f"{node}/change_state", request).success
    assert client.lifecycle(node) == "active"


def test_an_emergency_stop_does_not_wait_for_an_arming(client, nodes):
    """Nothing heard of the policy, an arming waits for seconds; the stop does not."""
    client.ready()
    nodes[POLICY].signal(signal.SIGSTOP)
    try:
        time.sleep(0.2)
        arming = client.begin(Trigger, f"{MONITOR}/arm", Trigger.Request())
        time.sleep(0.1)
        stop, disarm = (
            client.node.create_client(Trigger, name)
            for name in ("hardware/e_stop_trigger", f"{MONITOR}/disarm")
        )
        assert stop.wait_for_service(5.0)
        assert disarm.wait_for_service(5.0)
        begun_s = time.monotonic()
        answers = [stop.call_async(Trigger.Request()), disarm.call_async(Trigger.Request())]
        until(lambda: all(answer.done() for answer in answers), limit_s=1.0)
        assert time.monotonic() - begun_s < 1.0
        until(arming.done)
    finally:
        nodes[POLICY].signal(signal.SIGCONT)
    assert client.trigger("hardware/e_stop_reset")[0]


def test_deactivated_on_the_way_it_stops_and_says_that_it_is_not_active(client):
    client.drives()
    assert client.change(MONITOR, "deactivate")
    until(lambda: client.commanded() == 0.0)
    until(lambda: client.state == "INACTIVE")
    client.until_stands()
    count = len(client.commands)
    time.sleep(0.3)
    assert len(client.commands) == count, "who is not active says nothing"
    done, sentence = client.ask("arm")
    assert (done, sentence) == (False, "the safety monitor is not active")


def test_activated_again_it_drives_and_logs_beside_the_first_log(client, folder, nodes):
    client.drives()
    assert client.change(MONITOR, "deactivate")
    assert client.change(MONITOR, "activate")
    client.until_state("STOPPED")
    client.drives()
    logs = [line for line in nodes[MONITOR].said().splitlines() if "log: " in line]
    assert len(logs) == len(set(logs)) >= 2
    assert client.change(MONITOR, "deactivate")


def test_motion_that_is_forbidden_while_inactive_is_forbidden_afterwards(client):
    """Set between deactivation and activation; what is shown is what is obeyed."""
    assert client.change(MONITOR, "deactivate")
    assert client.set(MONITOR, enable_motion=False)[0]
    assert client.change(MONITOR, "activate")
    client.until_state("STOPPED")
    count = len(client.commands)
    client.ready()
    assert client.ask("arm")[0]
    time.sleep(1.0)
    assert len(client.commands) == count
    assert client.speed() < 0.02
    assert client.change(MONITOR, "deactivate")


def test_what_is_set_wrongly_while_inactive_fails_the_activation(client, nodes):
    assert client.change(MONITOR, "deactivate")
    assert client.set(MONITOR, policy="no.onnx")[0]
    assert not client.change(MONITOR, "activate")
    assert "no.onnx: cannot be read" in nodes[MONITOR].said()
    assert "Traceback" not in nodes[MONITOR].said()
    assert client.lifecycle(MONITOR) == "inactive"
    assert client.set(MONITOR, policy="circle.onnx")[0]


def test_a_second_one_in_the_namespace_is_refused(client, folder, nodes):
    second = Node(MONITOR, folder, NAMESPACE, policy="circle.onnx")
    try:
        assert second.ended() == 1
    finally:
        second.close()
    assert f"there is a node /{NAMESPACE}/{MONITOR} already" in second.said()
    assert "Traceback" not in second.said()
    client.drives()
    client.ask("disarm")
