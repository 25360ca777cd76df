"""CONTRIBUTING.md's table "How to add", done once in a copy of the source tree, and run there."""

from __future__ import annotations

import filecmp
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORDS = {"none": 0, "one": 1, "two": 2}


def allowed(what: str) -> tuple[int, int]:
    """Return how many new and edited files the page's row states: the first word of each cell."""
    row = re.search(rf"^\| {re.escape(what)} \| (\w+)\b[^|]*\| (\w+)\b[^|]*\|$", PAGE, re.MULTILINE)
    assert row is not None, f"no row '{what}'"
    return WORDS[row[1]], WORDS[row[2]]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"), encoding="utf-8")


def insert(folder: Path, name: str, after: str, line: str) -> None:
    """Put one line behind another one in a file that is there."""
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert text.count(after) == 1, f"{name}: {after!r} should be there once"
    path.write_text(text.replace(after, f"{after}\n{line}"), encoding="utf-8")


def touched(source: Path) -> tuple[int, int]:
    """Return how many Python, XML and YAML files are new in a copy of the tree, and edited."""
    new = edited = 0
    for path in source.rglob("*"):
        if path.suffix not in (".py", ".xml", ".yaml") or not path.is_file():
            continue
        original = ROOT / path.relative_to(source)
        if not original.exists():
            new += path.name != "__init__.py" or bool(path.read_text(encoding="utf-8").strip())
        elif not filecmp.cmp(path, original, shallow=False):
            edited += 1
    return new, edited


def run(source: Path, *arguments: str, cwd: Path | None = None) -> str:
    """Run a Python of this environment on the copy; return what it printed."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or source,
        env={**os.environ, "PYTHONPATH": str(source)},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def train(source: Path, *options: str) -> dict[str, Any]:
    """Train for one iteration of a few episodes; return its record."""
    few = ("--iterations", "1", "--batch", "130", "--critic-steps", "1", "--out", "runs/new")
    run(source, "-m", "holdfast", "train", *options, *few)
    record: dict[str, Any] = json.loads((source / "runs" / "new" / "progress.jsonl").read_text())
    return record


HOVER = {
    "mine/hover.xml": """
<mujoco model="hover">
  <option timestep="0.05" gravity="0 0 0"/>
  <worldbody>
    <body name="craft">
      <freejoint/>
      <geom type="cylinder" size="0.2 0.05" mass="1"/>
      <site name="middle"/>
    </body>
  </worldbody>
  <actuator>
    <motor site="middle" gear="1 0 0 0 0 0"/>
    <motor site="middle" gear="0 0 0 0 0 1"/>
  </actuator>
</mujoco>
""",
    "mine/hover.py": '''
"""A craft that floats: pushed forwards, and turned."""

from pathlib import Path

from holdfast.contract import ActionChannel, Cost, ObservationChannel
from holdfast.sim.robots.robot import FreeBase
from holdfast.sim.tasks.task import Task, contract_for


class Hover(FreeBase):
    name = "hover"
    model_file = Path(__file__).with_name("hover.xml")
    period_s = 0.1
    action = (
        ActionChannel("thrust", "N", -1.0, 1.0, max_rate_per_s=10.0),
        ActionChannel("torque", "N m", -0.01, 0.01, max_rate_per_s=1.0),
    )

    def control(self, action):
        return action


class Cross(Task):
    """Pays for speed, and costs 1 for each step with |x| > 1 m."""

    def __init__(self):
        self.robot = Hover()
        self.contract = contract_for(
            "mine/Cross-v0",
            self.robot,
            (
                ObservationChannel("position", 2, "m", "position"),
                ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
                ObservationChannel("applied_action", 2, "1", "applied_action"),
            ),
            30,
            Cost("outside", "abs(position.x) > 1.0", 5.0, 15.0, 0.99, 0.95),
        )

    def reset(self, rng, n):
        return *self.robot.start(rng, n, within_m=0.3), {}

    def reward(self, signals):
        return signals["forward_speed"][..., 0]
''',
}


def test_a_robot_and_a_task(source):
    write(source, HOVER)
    assert train(source, "--task", "mine/hover.py:Cross")["iteration"] == 1
    new, edited = touched(source)
    assert (new, edited) == (2, 0) == allowed("a robot in simulation, with a task")


REINFORCE = '''
"""REINFORCE (Williams 1992): one step along the gradient of the expected return."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from holdfast.policy.algorithms.ppo import Epochs, EpochSettings
from holdfast.policy.models.gaussian import Linearisation
from holdfast.policy.sampling.samples import Samples


@dataclass(frozen=True)
class ReinforceSettings(EpochSettings):
    """Settings of REINFORCE."""

    epochs: int = 1


class Reinforce(Epochs[ReinforceSettings]):
    """One pass of plain policy-gradient steps."""

    Settings = ReinforceSettings
    case = "reinforce"

    def may_go_on(self, divergence: float) -> bool:
        """See `Epochs`."""
        return True

    def ascent(self, samples: Samples, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """See `Epochs`."""
        here = Linearisation(self.policy, samples.x)
        weight = samples.advantages[:, 0] * samples.weight / samples.weight.sum()
        return here.score(samples.u, weight[:, None])[0]
'''


def test_an_algorithm(source):
    write(source, {"policy/algorithms/reinforce.py": REINFORCE})
    table = "policy/algorithms/__init__.py"
    import_line = "from holdfast.policy.algorithms.reinforce import Reinforce"
    insert(source, table, "from holdfast.policy.algorithms.ppo_kl import PPOKL", import_line)
    insert(source, table, '    "cpo": CPO,', '    "reinforce": Reinforce,')
    found = train(source, "--task", "PointCircle-v0", "--algorithm", "reinforce")
    assert found["case"] == "reinforce"
    new, edited = touched(source)
    assert (new, edited) == (1, 1) == allowed("a training algorithm")


def test_a_cost(source):
    """A cost of the speed of turning, billed for one robot and for two alike."""
    said = run(
        source,
        "-c",
        "import dataclasses, numpy as np\n"
        "from holdfast.safety_monitor.costs import CostModel\n"
        "from tests.helpers.data.bundles import drive_contract\n"
        "contract = drive_contract()\n"
        "cost = dataclasses.replace(contract.costs[0], expression='abs(yaw_rate) > 1')\n"
        "model = CostModel(dataclasses.replace(contract, costs=(cost,)))\n"
        "print(model.step({'yaw_rate': [-1.5]}), model.signals)\n"
        "print(model({'yaw_rate': np.array([[0.5], [1.5]])}).tolist())\n",
    )
    assert said == "(1.0,) ('yaw_rate',)\n[[0.0], [1.0]]\n"
    new, edited = touched(source)
    assert (new, edited) == (0, 0) == allowed("a cost")


TCP = {
    "robot/tcp/__init__.py": "",
    "robot/tcp/robot.py": '''
"""`tcp:HOST:PORT`: the serial link's device behind a TCP socket, as of an Ethernet bridge."""

from __future__ import annotations

from collections.abc import Collection

import serial

from holdfast.contract import Contract
from holdfast.errors import LinkError
from holdfast.robot.config import RobotConfig
from holdfast.robot.serial.robot import SerialRobot


def connect(
    address: str, config: RobotConfig, contract: Contract, required: Collection[str]
) -> SerialRobot:
    """Connect to the bridge, and greet the device behind it."""
    where = address.removeprefix("tcp:")
    try:
        port = serial.serial_for_url(f"socket://{where}", timeout=0)
    except OSError as error:
        raise LinkError(f"{where}: cannot be reached ({error})") from None
    return SerialRobot(port, where)
''',
}
DRIVE_OVER_TCP = """
import socket, threading, time, types
import numpy as np
from holdfast.robot.run.deploy import connect
from holdfast.robot.serial.device import Device
from tests.helpers.robots.device_rig import Bench

class Clocked(Bench):
    def now_us(self):
        return time.monotonic_ns() // 1000

board, server = Clocked(), socket.create_server(("127.0.0.1", 0))

def serve():
    bridge, _ = server.accept()
    bridge.setblocking(False)
    device = Device(board)
    while True:
        try:
            device.feed(bridge.recv(4096))
        except BlockingIOError:
            time.sleep(0.001)
        bridge.sendall(device.poll())

threading.Thread(target=serve, daemon=True).start()
monitor = types.SimpleNamespace(required=())
assembly = types.SimpleNamespace(config=None, contract=None, monitor=monitor)
robot = connect(f"tcp:127.0.0.1:{server.getsockname()[1]}", assembly)
robot.reset()
robot.arm()
robot.send(np.array([0.25, -0.5]), 0.1)
deadline = time.monotonic() + 5.0
while board.motors is None and time.monotonic() < deadline:
    time.sleep(0.001)
print(robot.identity.hardware_id, [round(value, 6) for value in board.motors])
"""


def test_a_transport(source):
    """The serial link over TCP: the device's motors turn as the host said."""
    write(source, TCP)
    insert(
        source,
        "robot/run/deploy.py",
        '    "serial": "holdfast.robot.serial.robot",',
        '    "tcp": "holdfast.robot.tcp.robot",',
    )
    assert run(source, "-c", DRIVE_OVER_TCP) == "bench-1 [0.25, -0.5]\n"
    new, edited = touched(source)
    assert (new, edited) == (1, 1) == allowed("a transport")


ALTITUDE = {
    "safety_monitor/checks/altitude.py": '''
"""Altitude: is the base higher than a robot on the floor can be?"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.safety_monitor.judge import Judge, Motion, When, require_above_0
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.reasons import TOO_HIGH


@dataclass(frozen=True)
class AltitudeLimits:
    """How high the base may be.

    Attributes:
        height_m: above this the robot is stopped.
    """

    height_m: float

    def __post_init__(self) -> None:
        require_above_0(self, "altitude", ("height_m",))


class Altitude(Judge):
    """The height of the base: a robot that is lifted must not move."""

    block = AltitudeLimits
    when = When.STEP
    signals = ("height",)

    def __init__(self, limits: AltitudeLimits, motion: Motion) -> None:
        self._height_m = limits.height_m

    def judge(self, seen: Seen) -> None:
        """Append a stop if the base is too high."""
        if seen.values["height"][0] > self._height_m:
            seen.reasons.append(TOO_HIGH(height_m=seen.values["height"][0]))
''',
}
TOO_HIGH = """TOO_HIGH = _row(
    "too_high", Check.ENVELOPE, STOPPED, EPISODE,
    "the base is {height_m:.2f} m high",
    "The base is higher than `height_m`.",
)  # fmt: skip"""
LIFT = """
import numpy as np
from pathlib import Path
from holdfast import yaml_file
from holdfast.bundle.contract_file import load_contract
from holdfast.safety_monitor import Limits, Monitor, Reading

limits = yaml_file.read(Path("config/drive.yaml")).data["monitor"]
limits = Limits.from_mapping({**limits, "altitude": {"height_m": 0.2}})
monitor = Monitor(load_contract(Path("config/guard_drive.yaml")), limits)
assert "height" in monitor.required
signals = dict.fromkeys(("heading", "forward_speed", "yaw_rate"), [0])
signals |= dict.fromkeys(("position", "tilt"), [0, 0])
for k, height_m in enumerate((0.1, 0.5)):
    values = {name: np.array(value, float) for name, value in signals.items()}
    sources = {"robot": Reading(k * 0.05, k, {**values, "height": np.array([height_m])})}
    verdict = monitor.step(monitor.look(k * 0.05, sources), None)
    print([reason.text for reason in verdict.reasons if reason.code == "too_high"])
"""


def test_a_check(source):
    write(source, ALTITUDE)
    table = "safety_monitor/checks/__init__.py"
    import_line = "from holdfast.safety_monitor.checks.altitude import Altitude"
    insert(source, table, "from collections.abc import Mapping\n", import_line)
    insert(source, table, '    "coasting": Coasting,', '    "altitude": Altitude,')
    insert(source, "safety_monitor/reasons.py", '    "drives it.",\n)  # fmt: skip', TOO_HIGH)
    assert run(source, "-c", LIFT) == "[]\n['the base is 0.50 m high']\n"
    new, edited = touched(source)
    assert (new, edited) == (1, 2) == allowed("a check of the monitor")
