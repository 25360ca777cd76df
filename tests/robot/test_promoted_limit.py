"""A policy for a range of limits in a registry: its trial, its evidence and its slot have one."""

from __future__ import annotations

import dataclasses
import json

import pytest

from holdfast.bundle import reader
from holdfast.contract import Cost, ObservationChannel
from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.log.reader import read
from holdfast.robot.run.deployment import Deployment
from holdfast.safety_monitor.evidence import Evidence
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs
from tests.helpers.robots.registries import registry, robot_file, run

LEFT = ObservationChannel("left", 1, "1", "budget_left")


def policy_of(path, expression):
    cost = Cost("off_line", expression, 10.0, 30.0, 1.0, 0.95, limit_range=(2.0, 12.0))
    plain = drive_contract(episode_steps=40, costs=(dataclasses.replace(cost, limit_range=None),))
    contract = dataclasses.replace(plain, costs=(cost,), observation=(*plain.observation, LEFT))
    return write_bundle(path, contract, action=(0.3, 0.5))


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as the_twin:
        yield the_twin


@pytest.fixture
def robot(twin, tmp_path):
    """A robot's file; and how its registry's policies are run, a folder for each run."""
    config = robot_file(tmp_path, unit="twin-1")

    def deploy(name, *options):
        line = ("deploy", "--robot", twin.address, "--config", config, "--out", tmp_path / name)
        return run(*line, *options)

    return config, deploy


def test_a_limit_is_tried_and_promoted(robot, tmp_path, capsys):
    config, deploy = robot
    policy = policy_of(tmp_path / "policy.onnx", "abs(position.x) > 50.0")
    assert run("promote", policy, "--config", config, "--canary", "--limit", 5) == 0
    assert "with limit 5 and episode caps off_line 10" in capsys.readouterr().out
    assert deploy("trial", "--canary", "--limit", 6) == 1
    assert "the canary policy has its limit in the robot's registry" in capsys.readouterr().err
    assert deploy("trial", "--canary") == 0
    assert "canary: certified after 8 episodes" in capsys.readouterr().out
    assert read(tmp_path / "trial").info.contract.limits.tolist() == [5.0]
    assert run("promote", policy, "--config", config, "--limit", 6) == 1
    assert "is promoted as it was tried; give neither --limit" in capsys.readouterr().err
    assert run("promote", policy, "--config", config) == 0
    assert deploy("run", "--policy", "promoted") == 0
    info = read(tmp_path / "run").info
    assert (info.contract.limits.tolist(), info.episode_cap) == ([5.0], {"off_line": 10.0})

    # Another limit of the same policy has a trial and evidence of its own.
    assert run("promote", policy, "--config", config, "--canary", "--limit", 8) == 0
    assert deploy("other", "--canary", "--episodes", 1) == 0
    assert "canary: undecided after 1 episode," in capsys.readouterr().out
    paths = registry(config).evidences(registry(config).state.slot("canary").bundle)
    assert [path.name[64:] for path in paths] == ["-5.0.json", "-8.0.json"]
    assert json.loads(paths[1].read_text())["limit"] == {"off_line": 8.0}
    capsys.readouterr()
    assert run("receipts", "--config", config) == 0
    told = capsys.readouterr().out
    for action, limit in (("canary", 5), ("promote", 5), ("canary", 8)):
        assert f": {action} {paths[0].name[:12]} under limit {limit} by " in told
    assert f"promoted: {paths[0].name[:12]} under limit 5\n" in told
    assert f"canary: {paths[0].name[:12]} under limit 8\n" in told
    # A file of the policy runs under any limit, beside this evidence.
    assert deploy("file", "--policy", policy, "--limit", 3) == 0


def test_an_alarm_under_one_limit_holds_the_policy(robot, tmp_path, capsys):
    config, deploy = robot
    policy = policy_of(tmp_path / "policy.onnx", "abs(position.x) > 1e-6")
    assert run("promote", policy, "--config", config, "--canary", "--limit", 2) == 0
    assert deploy("trial", "--canary") == 0
    assert "canary: alarm" in capsys.readouterr().out
    state = registry(config).state
    assert run("hold", policy, "--config", config, "--why", "a test", "--release") == 0
    assert deploy("run", "--policy", policy, "--limit", 12) == 1
    assert "is held on twin-1: alarm after" in capsys.readouterr().err
    assert len(state.held) == 1


def test_a_limit_out_of_the_range_is_not_promoted(robot, tmp_path, capsys):
    config, _ = robot
    policy = policy_of(tmp_path / "policy.onnx", "abs(position.x) > 50.0")
    line = ("promote", policy, "--config", config, "--anyway", "a test", "--limit")
    assert run(*line, 13) == 1
    assert "limit of off_line should be in [2, 12]" in capsys.readouterr().err
    assert run(*line, 3, 4) == 1
    assert "limit should have a value for each cost with a range, off_line" in (
        capsys.readouterr().err
    )
    plain = write_bundle(tmp_path / "plain.onnx", drive_contract())
    assert run("promote", plain, "--config", config, "--anyway", "a test", "--limit", 5) == 1
    assert "the policy was trained for one limit alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "limit", [{"off_line": "5"}, {"off_line": 99.0}, {"off_line": None}, 5, []]
)
def test_evidence_of_a_limit_that_cannot_be_is_a_sentence(tmp_path, capsys, limit):
    config = robot_file(tmp_path)
    policy = policy_of(tmp_path / "policy.onnx", "abs(position.x) > 50.0")
    assert run("promote", policy, "--config", config, "--canary", "--limit", 5) == 0
    opened = registry(config)
    slot = opened.state.slot("canary")
    contract = reader.load(policy).under(slot.limit).contract
    deployment = Deployment(opened.evidence(slot), Evidence(contract, slot.episode_cap))
    deployment.claim(opened.hardware_id)
    deployment.add(EpisodeResult(0, 40, (1.0,), 0, 0, COMPLETED))
    path = opened.evidence(slot)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"limit": limit}))
    capsys.readouterr()
    assert run("promote", policy, "--config", config, "--canary", "--limit", 8) == 1
    err = capsys.readouterr().err
    assert f"{path}: " in err
    assert err.count("\n") == 1
