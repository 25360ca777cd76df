"""What a ROS user does with the nodes, with ROS's own tools."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from holdfast.robot import config as configs
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import write_bundle
from tests.helpers.ros import ros2
from tests.helpers.ros.launching import launched, until

pytestmark = pytest.mark.alone


@contextmanager
def robot(environment, folder, *deploy, episodes=20, twin=(), policy="circle.onnx"):
    """A twin and a deployment on it, ready to be reset and armed.

    Of many episodes: each tool takes seconds to start, and should still find a robot that moves.
    """
    log_dir = f"log_dir:=run-{time.time_ns()}"
    with (
        launched(environment, folder, "twin", *twin, ready="twin_node]: active"),
        launched(
            environment,
            folder,
            "deploy",
            f"policy:={policy}",
            log_dir,
            f"episodes:={episodes}",
            *deploy,
            ready="policy_node]: active",
        ) as log,
    ):
        yield log


def trigger(ros, name):
    """Call a service; over Fast DDS the first answer to a new client may be lost, so try again."""
    for _ in range(4):
        try:
            said = ros("service", "call", name, "std_srvs/srv/Trigger", limit_s=15)
        except subprocess.TimeoutExpired:
            continue
        found = re.search(r"success=(\w+), message='(.*)'", said)
        assert found, said
        return found[1] == "True", found[2]
    raise AssertionError(f"{name} does not answer")


def armed(ros, namespace=""):
    until(lambda: trigger(ros, f"{namespace}/safety_monitor_node/reset")[0])
    done, sentence = trigger(ros, f"{namespace}/safety_monitor_node/arm")
    assert done or "armed already" in sentence, sentence


LATE = r"(source|proposal)_(stale|lost)|step_late|is \d+\.\d+ s old|did not run for \d+\.\d+ s"
"""What a stall of this computer stops a robot for, rightly, by code and in words; nothing else is
forgiven."""


def driving(ros, moves, namespace=""):
    """Arm the robot and wait until it moves; one that a stall of this computer stopped before a
    tool could look at it is reset and armed again, as by who stands beside it."""
    monitor = f"{namespace}/safety_monitor_node"
    armed(ros, namespace)

    def does():
        if moves():
            return True
        status = echo(ros, f"{monitor}/status")
        if "STOPPED" in status:
            assert re.search(LATE, status), status
            armed(ros, namespace)
        return False

    until(does)


def echo(ros, topic, field=""):
    """Return what is published. A tool may end before it has discovered the topic: ask it again."""
    given = ("--field", field) if field else ()
    for _ in range(3):
        with suppress(AssertionError):
            return ros("topic", "echo", "--once", *given, topic)
    return ros("topic", "echo", "--once", *given, topic)


def publisher(ros, topic, node):
    """Return what is known of a topic, once the tool has discovered the node that publishes it."""
    info = ros("topic", "info", "-v", topic)
    return info if f"Node name: {node}\n" in info else ""


def velocity(ros, part, topic):
    said = echo(ros, topic, f"twist.twist.{part}")
    number = re.search(r"^-?\d[\d.]*(e[-+]?\d+)?$", said, re.MULTILINE)  # beside what is warned of
    return float(number[0]) if number else 0.0


def forward_speed(ros, topic="/odom"):
    return velocity(ros, "linear.x", topic)


def turning(ros):
    return velocity(ros, "angular.z", "/odom")


def over(rmw, workspace):
    """Return the environment in which ROS uses a middleware. Skips the test if it is missing."""
    if rmw not in ros2.middlewares():
        pytest.skip(f"there is no {rmw} here")
    return {**workspace, "RMW_IMPLEMENTATION": rmw}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rmw", ros2.RMWS)
def test_the_usual_tools(workspace, folder, ros_in, rmw):
    workspace = over(rmw, workspace)
    ros = ros_in(workspace)
    with robot(workspace, folder, "enable_motion:=true") as log:
        nodes = {"/twin_node", "/safety_monitor_node", "/policy_node"}
        until(lambda: nodes <= set(ros("node", "list").split()))
        assert ros("lifecycle", "get", "/safety_monitor_node").strip() == "active [3]"
        assert "Deactivate" not in ros("lifecycle", "nodes")
        assert ros("param", "get", "/safety_monitor_node", "enable_motion") == (
            "Boolean value is: True\n"
        )
        said = ros("param", "describe", "/safety_monitor_node", "episodes")
        assert "Min value: 1" in said
        refused = ros("param", "set", "/safety_monitor_node", "policy", "x")
        assert "policy can only be set while the node is not active" in refused
        driving(ros, lambda: forward_speed(ros) > 0.3)
        info = until(lambda: publisher(ros, "/cmd_vel", "safety_monitor_node"))
        assert info.count("Endpoint type: PUBLISHER") == 1, "one door"
        rate = rate_of(workspace, "/cmd_vel")
        assert 15.0 < rate < 25.0
        assert ros("lifecycle", "set", "/safety_monitor_node", "deactivate")
        until(lambda: abs(forward_speed(ros)) < 0.02)
        text = log.read_text()
        assert "arm: armed" in text
        ros("lifecycle", "set", "/safety_monitor_node", "cleanup")
        assert ros("lifecycle", "get", "/safety_monitor_node").strip() == "unconfigured [1]"
        doctor = ros("doctor", limit_s=90)
        assert "All" in doctor, doctor
        assert "failed" not in doctor.replace("0 failed", ""), doctor


def rate_of(environment, topic):
    """What `ros2 topic hz` says; it goes on until it is stopped."""
    process = subprocess.Popen(
        ["ros2", "topic", "hz", topic],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if found := re.match(r"average rate: ([\d.]+)", line):
                return float(found[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
    raise AssertionError("nothing was published")


@pytest.mark.timeout(300)
def test_from_goal_to_goal_among_posts(workspace, folder, ros):
    """A task that needs a lidar and a planner: the twin is both, real nodes see what it says."""
    contract = dataclasses.replace(resolve("DriveGoal-v0").make().contract, episode_steps=72_000)
    write_bundle(folder / "goal.onnx", contract, action=(0.0, 0.5))
    config = f"robot_config:={configs.find('drive_lidar')}"
    twin, deploy = ("task:=DriveGoal-v0", config), (config, "enable_motion:=true")
    with robot(workspace, folder, *deploy, twin=twin, policy="goal.onnx"):
        assert "geometry_msgs/msg/PointStamped" in ros("topic", "info", "/goal")
        assert "base_link" in echo(ros, "/goal", "header.frame_id")
        assert float(echo(ros, "/scan", "range_max")[:3]) == 3.0
        driving(ros, lambda: turning(ros) > 0.2)  # near a post half as fast as proposed


@pytest.mark.timeout(300)
def test_a_dry_run_sends_nothing(workspace, folder, ros):
    """The default: everything runs, the policy proposes motion, and no command is sent."""
    with robot(workspace, folder):
        armed(ros)
        said = echo(ros, "/cmd_vel_proposed", "twist.linear.x")
        assert float(said.split()[0]) == pytest.approx(0.4)
        assert "/cmd_vel\n" not in ros("topic", "list") or "Publisher count: 0" in ros(
            "topic", "info", "/cmd_vel"
        )
        assert abs(forward_speed(ros)) < 0.02
        status = echo(ros, "/safety_monitor_node/status")
        assert "ACTIVE" in status


@pytest.mark.timeout(300)
def test_a_robot_in_a_namespace(workspace, folder, ros):
    where = ("namespace:=fleet/one",)
    with robot(workspace, folder, *where, "enable_motion:=true", twin=where):
        until(lambda: "/fleet/one/safety_monitor_node" in ros("node", "list"))
        driving(ros, lambda: forward_speed(ros, "/fleet/one/odom") > 0.3, "/fleet/one")
        assert "/odom" not in ros("topic", "list").split()


@pytest.mark.timeout(300)
def test_commands_without_a_stamp(workspace, folder, ros):
    """As drivers of Humble take them."""
    file = (f"robot_config:={folder}/twist.yaml",)
    with robot(workspace, folder, *file, "enable_motion:=true", twin=file):
        driving(ros, lambda: forward_speed(ros) > 0.3)
        assert "geometry_msgs/msg/Twist\n" in ros("topic", "type", "/cmd_vel")


@pytest.mark.timeout(300)
def test_simulated_time(workspace, folder, ros):
    """Twice as fast as it is: stamps, periods and time limits are on the twin's clock."""
    clock = ("publish_clock:=true", "realtime_factor:=2.0")
    with robot(workspace, folder, "use_sim_time:=true", "enable_motion:=true", twin=clock):
        driving(ros, lambda: forward_speed(ros) > 0.3)
        stamp = echo(ros, "/cmd_vel", "header.stamp.sec")
        assert int(re.search(r"\d+", stamp)[0]) < 10_000, "not Unix time"


@pytest.mark.timeout(400)
def test_bags(workspace, folder, ros):
    """Recorded by `record.launch.py`; our own log, played by ROS; and a bag judged again."""
    if not (Path(ros2.sourced()) / "share" / "ros2bag").is_dir():
        pytest.skip("there is no ros2 bag here")
    bag = folder / f"bag-{time.time_ns()}"
    with (
        robot(workspace, folder, "enable_motion:=true", episodes=1) as log,
        launched(workspace, folder, "record", f"out:={bag}", ready="Subscribed to topic '/odom'"),
    ):
        driving(ros, lambda: forward_speed(ros) > 0.3)
        time.sleep(3.0)
        own = re.search(r"log: (\S+)", log.read_text())[1]
    info = ros("bag", "info", str(bag))
    for topic in ("/odom", "/cmd_vel", "/cmd_vel_proposed", "/safety_monitor_node/status"):
        assert re.search(rf"Topic: {topic} .* Count: [1-9]", info), info
    own = str(folder / own)
    assert re.search(r"Topic: holdfast/step .* Count: [1-9]", ros("bag", "info", own))
    played = ros("bag", "play", own, "--rate", "20", limit_s=90)
    assert re.search("'holdfast/[a-z]+' not found", played), "what is not installed is skipped"
    log = folder / "replayed.txt"
    with log.open("w") as out:
        subprocess.run(
            [
                "ros2",
                "launch",
                "holdfast",
                "replay.launch.py",
                f"bag:={bag}",
                "policy:=circle.onnx",
            ],
            env=workspace,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
    assert "policy_node]: active" in log.read_text()
    assert "Traceback" not in log.read_text()
    mine = re.search(r"log: (\S+)", log.read_text())[1]
    assert re.search(r"Topic: holdfast/step .* Count: [1-9]", ros("bag", "info", mine))


def without_ros(workspace):
    """Return an environment that knows the graph, but not ROS."""
    here = {k: v for k, v in os.environ.items() if not k.startswith(("ROS_", "RMW_", "PYTHONPATH"))}
    return here | {k: workspace[k] for k in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")}


def deployed(workspace, folder, ros):
    """Run a bundle on the robot of ROS nodes, without ROS, until it moves; anew where a stall of
    this computer stopped it before a tool could look."""
    for _ in range(3):
        deploy = deploying(workspace, folder)
        try:
            until(lambda run=deploy: run.poll() is not None or forward_speed(ros) > 0.3)
        except BaseException:
            deploy.send_signal(signal.SIGINT)
            print(*deploy.communicate(timeout=20))
            raise
        if deploy.poll() is None:
            return deploy
        said = "".join(deploy.communicate())
        assert re.search(LATE, said), said
    raise AssertionError("it was stopped each time")


def deploying(workspace, folder):
    """Run a bundle on the robot of ROS nodes, without ROS."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "holdfast", "deploy", "--robot", "dds:drive"),
            *("--policy", "circle.onnx", "--no-prompt", "--out", f"run-{time.time_ns()}"),
        ],
        env=without_ros(workspace),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(300)
def test_without_ros_on_a_ros_robot(workspace, folder, ros_in):
    """`holdfast deploy --robot dds:drive` drives a robot of real ROS nodes, seen by ROS's tools."""
    workspace = over("rmw_cyclonedds_cpp", workspace)
    ros = ros_in(workspace)
    with launched(workspace, folder, "twin", ready="twin_node]: active"):
        deploy = deployed(workspace, folder, ros)
        try:
            until(lambda: "/holdfast" in ros("node", "list").split())
            info = until(lambda: publisher(ros, "/cmd_vel", "holdfast"))
            assert "Topic type hash: RIHS01_5f0fcd4f" in info
            assert trigger(ros, "/hardware/e_stop_trigger")[0]
            _, err = deploy.communicate(timeout=30)
            assert deploy.returncode == 1
            assert "hardware/e_stop says that the hardware is stopped" in err
            until(lambda: abs(forward_speed(ros)) < 0.02)
        finally:
            deploy.kill()
            deploy.communicate()


@pytest.mark.timeout(300)
def test_a_twin_without_ros_is_seen_by_ros(workspace, folder, ros_in):
    """The other way round: real nodes drive a robot that is not ROS, its services included."""
    workspace = over("rmw_cyclonedds_cpp", workspace)
    ros = ros_in(workspace)
    here = without_ros(workspace)
    twin = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "twin", "--dds", "--scan-rays", "36"],
        env=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert twin.stdout.readline() == "dds:drive\n"
        with launched(
            workspace,
            folder,
            "deploy",
            "policy:=circle.onnx",
            "enable_motion:=true",
            f"log_dir:=run-{time.time_ns()}",
            ready="policy_node]: active",
        ) as log:
            driving(ros, lambda: forward_speed(ros) > 0.3)
            until(lambda: "/twin" in ros("node", "list").split())
            assert trigger(ros, "/hardware/e_stop_trigger")[0]
            until(lambda: abs(forward_speed(ros)) < 0.02)
            ranges = echo(ros, "/scan", "range_max")
            assert "10.0" in ranges
            assert "parse type hash" not in log.read_text()
    finally:
        twin.terminate()
        twin.communicate(timeout=10)


@pytest.mark.timeout(300)
def test_over_fast_dds_topics_work_and_services_are_said_not_to(workspace, folder, ros_in):
    """Fast DDS sends the ids of requests in another way."""
    workspace = over("rmw_fastrtps_cpp", workspace)
    ros = ros_in(workspace)
    with launched(workspace, folder, "twin", ready="twin_node]: active"):
        deploy = deployed(workspace, folder, ros)
        try:
            until(lambda: "/holdfast" in ros("node", "list").split())
        finally:
            deploy.send_signal(signal.SIGINT)
            _, err = deploy.communicate(timeout=20)
        assert "rmw_fastrtps_cpp" in err
        assert "services" in err
        until(lambda: abs(forward_speed(ros)) < 0.02)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["twin", "deploy", "hil", "record", "replay"])
def test_a_launch_file_tells_its_arguments(ros, name):
    said = ros("launch", "holdfast", f"{name}.launch.py", "--show-args")
    assert "default" in said
    assert "Traceback" not in said
