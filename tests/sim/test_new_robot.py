"""`holdfast init`: what it writes runs unchanged, from the check to the assembly of a run."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from holdfast.cli import main
from holdfast.robot.base import Identity
from holdfast.robot.run.assembly import assemble, require_fit
from holdfast.robot.serial import device
from holdfast.sim.new_robot.sketch import Joints, Wheels, sketch
from holdfast.sim.registry import resolve

MODELS = Path(__file__).parents[1] / "helpers" / "models"
ASSETS = Path(__file__).parents[2] / "sim" / "robots" / "assets"
ROBOTS = [("two", "two_wheels.xml", "TwoTask"), ("four-legs", "four_legs.xml", "FourLegsTask")]


def board_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> device.Board:
    """Return the board of a skeleton, which finds device.py beside it."""
    monkeypatch.setitem(sys.modules, "device", device)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (kind,) = device.Board.__subclasses__()[-1:]
    assert kind.__module__ == path.stem
    return kind()


@pytest.mark.parametrize(("robot", "model", "task"), ROBOTS)
def test_what_is_written_runs_unchanged(tmp_path, monkeypatch, capsys, robot, model, task):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(MODELS / model, tmp_path / "models")
    assert main(["init", robot, "--model", f"models/{model}", "--out", "mine"]) == 0
    board_file = Path("mine") / f"{robot.replace('-', '_')}_board.py"
    files = sorted(str(path) for path in Path("mine").iterdir())
    assert files == sorted([f"mine/{robot}.py", f"mine/{robot}.yaml", str(board_file)])
    name = f"mine/{robot}.py:{task}"
    assert f"next: holdfast check --task {name}" in capsys.readouterr().out
    assert main(["check", "--task", name]) == 0
    small = ["--iterations", "1", "--batch", "1300", "--critic-steps", "2", "--out", "run"]
    assert main(["train", "--task", name, *small]) == 0
    checkpoint = ["--checkpoint", "run/checkpoint.safetensors", "--out", "policy.onnx"]
    assert main(["export", *checkpoint, "--episodes", "8", "--anyway", "--task", name]) == 0
    assembly = assemble(Path("policy.onnx"), Path(f"mine/{robot}.yaml"), (), None)
    if robot == "two":  # a wheeled base has the usual topics
        sources = assembly.config.topics().sources.values()
        said = {signal for source in sources for signal in source.signals}
        assert said >= set(assembly.monitor.required)
    board = board_of(board_file, monkeypatch)
    identity = Identity(
        board.robot, board.hardware_id, board.actions, board.action_low, board.action_high,
        board.watchdog_ms / 1e3, {"robot": dict(board.signals)}, board.lockstep, board.self_placing,
    )  # fmt: skip
    valid_s = assembly.config.command_valid_for_s
    require_fit(assembly.contract, identity, assembly.monitor.required, valid_s)
    for signal, values in board.signals:
        assert assembly.contract.signal_size(signal) == values
    with pytest.raises(NotImplementedError, match="set the motors"):
        board.actuate((0.0,) * len(board.actions))


def test_no_file_is_replaced(tmp_path, capsys):
    line = ["init", "two", "--model", str(MODELS / "two_wheels.xml"), "--out", str(tmp_path)]
    for name in ("two.py", "two.yaml", "two_board.py"):
        (tmp_path / name).write_text("years of work")
        assert main(line) == 1
        assert f"{tmp_path / name}: exists; give another name" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "years of work"
        (tmp_path / name).unlink()


def test_wheels_by_hand():
    """The actuators go from right to left, and the right wheel's axis is turned round."""
    found = sketch("two", MODELS / "two_wheels.xml")
    assert found.drive == Wheels(side_m=(-0.14, 0.14), radius_m=(0.08, 0.08), gear=(-1.0, 1.0))
    forward, turn = found.action
    assert (forward.name, forward.high) == ("forward_speed", 0.57)  # 0.6 * 12 rad/s * 0.08 m
    assert (turn.name, turn.high) == ("yaw_rate", 2.0)
    assert found.period_s == 0.05
    wheel_rad_s = (forward.high + turn.high * 0.14) / 0.08
    assert wheel_rad_s < 12.0


def test_position_actuators_begin_from_the_keyframe():
    """The quadruped stands in a keyframe; at the angles 0 its calves are beyond their ranges."""
    file = ASSETS / "quadruped.xml"
    found = sketch("quad", file)
    assert isinstance(found.drive, Joints)
    stance = mujoco.MjModel.from_xml_path(str(file)).key_qpos[0, 7:]
    assert found.drive.rest == pytest.approx(stance, abs=1e-6)
    assert found.drive.rest == pytest.approx(np.tile([0.0, 0.8, -1.6], 4), abs=0.1)
    assert [channel.unit for channel in found.action] == ["rad"] * 12
    assert all((channel.low, channel.high) == (-0.3, 0.3) for channel in found.action)
    assert found.action[0].name == "front_left_hip"


def test_motors_are_told_their_torque():
    """Gymnasium's ant: a gear of 150 and a control of at most 1."""
    ant = resolve("AntCircle-v0").make().robot
    found = sketch("ant", ant.model_file)
    assert isinstance(found.drive, Joints)
    assert {(c.unit, c.low, c.high) for c in found.action} == {("N m", -150.0, 150.0)}
    told = np.array(found.drive.rest) + np.array(found.drive.gain) * 150.0
    assert told == pytest.approx(np.ones(8))


@pytest.mark.parametrize(
    ("robot", "text", "sentence"),
    [
        ("../two", "", "robot should be made of letters, digits, _ and - alone"),
        ("numpy", "", "nor the name of an installed module, received 'numpy'"),
        ("import", "", "robot should begin with a letter, and be neither a word of Python"),
        ("2", "", "robot should begin with a letter, and be neither a word of Python"),
        ("-", "", "robot should begin with a letter, and be neither a word of Python"),
        ("two", None, "there is no such file"),
        ("two", "<mujoco", "MuJoCo cannot load it"),
        ("two", "<mujoco><worldbody><body><geom size='1'/></body></worldbody></mujoco>",
         "its base should have a free joint"),
        ("two", "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>",
         "should have an actuator at least"),
        ("two", "<mujoco><worldbody><body><freejoint/><geom size='1'/><body><joint name='a'/>"
         "<geom size='1'/></body></body></worldbody>"
         "<actuator><motor joint='a' ctrlrange='1 2'/></actuator></mujoco>",
         "actuator 'a' should allow 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_begun_from_is_refused(tmp_path, capsys, robot, text, sentence):
    model = tmp_path / "model.xml"
    if text is not None:
        model.write_text(text)
    assert main(["init", robot, "--model", str(model), "--out", str(tmp_path / "mine")]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_what_is_no_model_is_told_what_a_model_is(tmp_path, capsys):
    (tmp_path / "robot.yaml").write_text("wheels: 4\n")
    (tmp_path / "robots").mkdir()
    for name, sentence in (
        (
            "robot.yaml",
            "should be a model that MuJoCo reads: an MJCF file, whose name ends in .xml",
        ),
        ("robots", "should be a file, not a folder"),
    ):
        assert main(["init", "two", "--model", str(tmp_path / name)]) == 1
        assert capsys.readouterr().err.startswith(f"holdfast: {tmp_path / name}: {sentence}")
