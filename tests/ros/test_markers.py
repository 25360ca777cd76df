"""Markers for RViz: drawn in this process over real DDS, and by the safety monitor's node."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
import time
from types import MappingProxyType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")
pytest.importorskip("visualization_msgs", reason="ROS's visualization_msgs is not installed")

import rclpy
from visualization_msgs.msg import Marker, MarkerArray

from holdfast.contract import Cost
from holdfast.errors import ConfigError
from holdfast.expressions import places
from holdfast.robot import config as configs
from holdfast.robot.ros import markers
from holdfast.robot.ros.graph import RosGraph
from holdfast.robot.ros.markers import Markers
from holdfast.safety_monitor.checks.geofence import Geofence
from holdfast.safety_monitor.messages import Reading
from holdfast.safety_monitor.monitor import Monitor
from tests.helpers.data import layouts
from tests.helpers.data.bundles import drive_contract
from tests.helpers.ros.system import (
    DRIVES,
    LATCHED,
    MONITOR,
    POLICY,
    TWIN,
    Client,
    Node,
    environment,
    system,
    until,
)

pytestmark = pytest.mark.alone

LIMITS = configs.load(configs.find("drive")).monitor
FENCE = Geofence(
    keep_in_m=((-3.0, -1.0), (3.0, -1.0), (3.0, 2.0), (-3.0, 2.0)),
    keep_out_m=(((1.0, 1.0), (2.0, 1.0), (1.5, 1.5)), ((-1.0, 0.0), (-2.0, 0.0), (-2.0, 1.0))),
)


@pytest.fixture
def node():
    os.environ.update(environment())
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node("monitor", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


class Viewer:
    """What RViz would be: a node of its own that joins late, and hears both topics."""

    def __init__(self, name="monitor"):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("viewer", context=self.context)
        self.zones, self.moving = [], []
        self.node.create_subscription(MarkerArray, f"{name}/zones", self.zones.append, LATCHED)
        self.node.create_subscription(MarkerArray, f"{name}/markers", self.moving.append, 10)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def until(self, condition):
        def so():
            self.executor.spin_once(timeout_sec=0.01)
            return condition()

        return until(so)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def viewer(node):
    made = Viewer()
    yield made
    made.close()


def limits(fence):
    checks = {name: block for name, block in LIMITS.checks.items() if name != "geofence"}
    return dataclasses.replace(
        LIMITS, checks=MappingProxyType({**checks, **({"geofence": fence} if fence else {})})
    )


def named(message, name):
    return [marker for marker in message.markers if marker.ns == name]


def corners(marker):
    return [(point.x, point.y) for point in marker.points]


def covered(marker, points):
    """Return which points lie in a triangle of a marker."""
    a = np.reshape(corners(marker), (-1, 3, 2))
    edge, way = np.roll(a, -1, axis=1) - a, points[:, None, None] - a
    side = edge[..., 0] * way[..., 1] - edge[..., 1] * way[..., 0]  # of each of the three edges
    return ((side >= 0).all(axis=2) | (side <= 0).all(axis=2)).any(axis=1)


def test_a_viewer_that_joins_late_sees_the_geofence(node, viewer):
    Markers(RosGraph(node), "odom").begin(drive_contract(), limits(FENCE))
    (message,) = viewer.until(lambda: viewer.zones)
    assert {marker.header.frame_id for marker in message.markers} == {"odom"}
    (inside,), outside = named(message, "keep_in"), named(message, "keep_out")
    assert inside.type == Marker.LINE_STRIP
    assert corners(inside) == [*FENCE.keep_in_m, FENCE.keep_in_m[0]]
    assert [corners(each) for each in outside] == [[*c, c[0]] for c in FENCE.keep_out_m]
    assert [each.id for each in outside] == [0, 1]


@pytest.mark.parametrize("expression", [
    "abs(position.x) > 0.9",
    "hypot(position.x, position.y) > 0.8",
    "(position.x > 0) != (position.y > 0.5)",
    "position.x > -100",
])  # fmt: skip
@pytest.mark.parametrize("fence", [FENCE, None])
def test_the_triangles_cover_the_cost_free_places(node, viewer, expression, fence):
    contract = drive_contract(costs=(Cost("cost", expression, 10.0, 30.0, 1.0, 0.95),))
    Markers(RosGraph(node), "odom").begin(contract, limits(fence))
    (message,) = viewer.until(lambda: viewer.zones)
    (free,) = named(message, "cost_free")
    assert free.type == Marker.TRIANGLE_LIST
    low, high = ((-3.0, -1.0), (3.0, 2.0)) if fence else ((-5.0, -5.0), (5.0, 5.0))
    points = np.random.default_rng(0).uniform(low, high, (2000, 2))
    wrong = covered(free, points) == places.billed(contract, points)
    # On a grid of 120 cells a point near an edge may fall on the wrong side of it.
    assert wrong.mean() < 0.03


def test_a_cost_of_speed_shows_no_place(node, viewer):
    cost = Cost("fast", "abs(forward_speed) > 0.4", 10.0, 30.0, 1.0, 0.95)
    Markers(RosGraph(node), "odom").begin(drive_contract(costs=(cost,)), limits(FENCE))
    (message,) = viewer.until(lambda: viewer.zones)
    assert not named(message, "cost_free")[0].points


class Drawing:
    """A monitor, and what draws it."""

    def __init__(self, node):
        self.monitor = Monitor(drive_contract(), LIMITS)
        self.markers = Markers(RosGraph(node), "odom")
        self.markers.begin(drive_contract(), LIMITS)
        self.sequence = 0

    def show(self, **signals):
        self.sequence += 1
        now_s = 100.0 + 0.05 * self.sequence
        arrays = {name: np.array(value) for name, value in signals.items()}
        look = self.monitor.look(now_s, {"odom": Reading(now_s, self.sequence, arrays)})
        verdict = self.monitor.step(look, None)
        self.markers.show(look, verdict)
        return verdict


def moving(**changes):
    signals = {
        "position": [1.0, 2.0],
        "heading": [0.5],
        "forward_speed": [0.8],
        "yaw_rate": [0.0],
    }
    return {name: value for name, value in (signals | changes).items() if value}


def newest(viewer, draw, name):
    """Draw until a marker arrives, and return it."""

    def arrived():
        draw()
        return viewer.moving and named(viewer.moving[-1], name)

    return viewer.until(arrived)[0]


def test_the_line_ends_where_the_robot_can_stop(node, viewer):
    drawing = Drawing(node)
    line = newest(viewer, lambda: drawing.show(**moving()), "stopping")
    start, stop = corners(line)
    assert start == (1.0, 2.0)
    way = 0.8 * 0.2 + 0.8**2 / (2 * 2.0)  # config/drive.yaml: 0.2 s, 2.0 m/s^2
    assert stop == pytest.approx((1.0 + way * math.cos(0.5), 2.0 + way * math.sin(0.5)))
    assert line.header.stamp.sec >= 100
    assert line.lifetime.sec == 1


def test_a_velocity_that_is_not_known_has_no_line(node, viewer):
    drawing = Drawing(node)
    newest(viewer, lambda: drawing.show(**moving(heading=None)), "budget")
    assert not any(named(message, "stopping") for message in viewer.moving)


def test_the_text_has_state_reason_and_budget(node, viewer):
    drawing = Drawing(node)
    text = newest(viewer, lambda: drawing.show(**moving()), "budget")
    reason = drawing.show(**moving()).reasons[0].text
    headline, cost = text.text.splitlines()
    assert headline == f"STOPPED: {reason}"
    assert re.fullmatch(r"outside_corridor: 0 spent, ([\d.]+ predicted, )?cap 30", cost), cost
    assert (text.pose.position.x, text.pose.position.y) == (1.0, 2.0)
    assert text.color.r > text.color.g, "red in STOPPED"


def test_a_blind_robots_text_stays_where_the_robot_was_seen_last(node, viewer):
    drawing = Drawing(node)
    newest(viewer, lambda: drawing.show(**moving()), "budget")

    def blind():
        drawing.show(**moving(position=None))
        return not named(viewer.moving[-1], "stopping")

    viewer.until(blind)
    (text,) = named(viewer.moving[-1], "budget")
    assert (text.pose.position.x, text.pose.position.y) == (1.0, 2.0)


def test_it_is_drawn_at_most_five_times_a_second(node, viewer):
    drawing = Drawing(node)
    newest(viewer, lambda: drawing.show(**moving()), "budget")
    viewer.moving.clear()
    begin_s = time.monotonic()

    def two_seconds():
        drawing.show(**moving())
        return time.monotonic() - begin_s > 2.0

    viewer.until(two_seconds)
    assert 1 <= len(viewer.moving) <= 11


def test_clearing_takes_everything_back(node, viewer):
    drawing = Drawing(node)
    newest(viewer, lambda: drawing.show(**moving()), "budget")
    drawing.markers.clear()
    viewer.until(lambda: viewer.zones[-1].markers[0].action == Marker.DELETEALL)
    viewer.until(lambda: viewer.moving[-1].markers[0].action == Marker.DELETEALL)


def test_the_numbers_are_those_of_the_message_type():
    assert (markers.LINE_STRIP, markers.TEXT, markers.TRIANGLES) == (
        Marker.LINE_STRIP,
        Marker.TEXT_VIEW_FACING,
        Marker.TRIANGLE_LIST,
    )
    assert (markers.ADD, markers.DELETE_ALL) == (Marker.ADD, Marker.DELETEALL)


def test_without_the_message_type_there_are_no_markers(node, monkeypatch):
    monkeypatch.setitem(sys.modules, "visualization_msgs.msg", None)
    with pytest.raises(ConfigError, match=r"visualization_msgs/msg/MarkerArray.*not installed"):
        Markers(RosGraph(node), "odom")


# The node.


@pytest.fixture(scope="module")
def deployment(folder):
    given = {"policy": "circle.onnx"}
    monitor = {**given, "enable_motion": True, "record": False}
    nodes = (TWIN, {"scan_rays": 36}), (MONITOR, monitor), (POLICY, given)
    with system(folder, "markers", *nodes) as (client, nodes):
        yield client, nodes


def test_the_node_draws_a_robot_that_drives(deployment):
    client, _ = deployment
    viewer = Viewer(f"markers/{MONITOR}")
    try:
        viewer.until(lambda: viewer.zones)
        client.drives()
        line = viewer.until(
            lambda: [
                line
                for message in viewer.moving
                for line in named(message, "stopping")
                if math.dist(*corners(line)) > 0.1
            ]
        )[-1]
        heard = client.odometry[-1].pose.pose.position
        assert math.dist(corners(line)[0], (heard.x, heard.y)) < 1.0
        texts = [named(message, "budget")[0].text for message in viewer.moving]
        assert any(text.startswith(DRIVES) for text in texts), texts
        assert client.change(MONITOR, "deactivate")
        viewer.until(lambda: viewer.zones[-1].markers[0].action == Marker.DELETEALL)
        assert client.change(MONITOR, "activate")
        viewer.until(lambda: named(viewer.zones[-1], "keep_in"))
    finally:
        viewer.close()


@pytest.mark.parametrize(("topic", "fields"), layouts.paths(layouts.load("live")))
def test_the_graph_has_what_the_live_layout_names(deployment, topic, fields):
    client, _ = deployment
    everyones = ("/diagnostics", "/rosout")
    full = topic if topic in everyones else f"/markers{topic}"
    kinds = until(lambda: dict(client.node.get_topic_names_and_types()).get(full))
    (kind,) = kinds
    assert topic not in layouts.in_3d(layouts.load("live")) or kind in layouts.DRAWN
    message = RosGraph(client.node).message_class(kind)()
    layouts.value(message, fields)


def test_a_node_without_visualization_msgs_says_so_once_and_goes_on(folder):
    given = {"policy": "contract.yaml", "proposals": "external", "record": False}
    blocked = "import sys; sys.modules['visualization_msgs'] = None"
    client = Client("plain")
    node = Node(MONITOR, folder, "plain", blocked, **given)
    try:
        client.bring_up(MONITOR)
        client.until_state("STOPPED")
        until(lambda: "no markers are published for RViz" in node.said())
        assert node.said().count("no markers are published") == 1
    finally:
        node.close()
        client.close()
