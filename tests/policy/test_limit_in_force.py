"""A policy for a range of limits, from its training to its child, under a limit of the range."""

from __future__ import annotations

import json

import numpy as np
import pytest

from holdfast.bundle import reader
from holdfast.bundle.limit_range import under
from holdfast.cli import main
from holdfast.log.audit import billed
from holdfast.policy.learn.knots import along
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots import runs

BUILD = (
    *("--task", "DriveCircle-v0", "--limit-range", "2", "20", "--iterations", "1"),
    *("--batch", "2000", "--hidden", "8", "--critic-steps", "4"),
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", *BUILD, "--out", str(folder)]) == 0
    line = [
        "export",
        "--checkpoint",
        str(folder / "checkpoint.safetensors"),
        "--episodes",
        "60",
        "--anyway",
    ]
    assert main([*line, "--out", str(folder / "policy.onnx")]) == 0
    return folder / "policy.onnx"


def test_a_refusal_names_every_limit_along_the_range(policy, tmp_path, capsys):
    out = tmp_path / "policy.onnx"
    source = policy.with_name("checkpoint.safetensors")
    assert main(["export", "--checkpoint", str(source), "--episodes", "8", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    limits = [step.costs[0].limit for step in along(reader.load(policy).contract)]
    assert len(limits) > 2
    assert [f"(limit d = {limit:g}" in said for limit in limits] == [True] * len(limits)
    assert not out.exists()


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as served:
        yield served


@pytest.fixture(scope="module")
def run(tmp_path_factory, twin, policy):
    """Return the folder of an exploring run under limit 5."""
    folder = tmp_path_factory.mktemp("run")
    return deployed(folder, twin, policy, 5, "--explore", "--episodes", "3")


def deployed(folder, twin, policy, limit, *options):
    evidence = ("--evidence", str(folder / "evidence.json"))
    line = ("--limit", str(limit), *evidence, *options)
    with runs.deployment(folder / f"under-{limit}", twin.address, policy, *line) as made:
        status, out, err = made.end()
    assert (status, err) == (0, "")
    assert f"(d {limit}, episode cap {3 * limit})" in out
    return folder / f"under-{limit}"


def test_the_bundle_holds_the_range_and_what_it_costs_along_it(policy):
    held = reader.load(policy)
    (cost,) = held.contract.costs
    assert (cost.limit, cost.limit_range) == (10.0, (2.0, 20.0))
    assert len(held.provenance["measured_along"]) == 7
    assert main(["verify", "--policy", str(policy)]) == 0


def test_the_run_is_under_the_limit(run, policy):
    log, held = runs.read(run), reader.load(policy)
    assert log.info.contract == under(held.contract, (5.0,))
    assert log.info.episode_cap == {"outside_corridor": 15.0}
    assert log.info.bundle_hash == held.hash
    summary = json.loads((run / "summary.json").read_text())
    assert summary["limit"] == {"outside_corridor": 5.0}
    assert summary["evidence"]["outside_corridor"]["limit"] == 5.0


def test_the_policy_was_told_what_was_left(tmp_path, twin, policy, capsys):
    """The logged observation, beside the costs that are computed again from the logged signals."""
    contract = reader.load(policy).contract
    straight = write_bundle(tmp_path / "straight.onnx", contract, action=(0.9, 0.3))
    run = deployed(tmp_path, twin, straight, 5, "--episodes", "2")
    log, left = runs.read(run), []
    for episode in log.episodes:
        spent = np.cumsum(billed(log, episode)[:, 0])
        before = np.concatenate(([0.0, 0.0], spent))[: len(episode.observation)]
        left.append(episode.observation[:, -1])
        np.testing.assert_array_equal(left[-1], 5.0 - before)
    assert min(each.min() for each in left) < 0.0
    assert main(["replay", str(run), "--policy", str(straight)]) == 0
    assert "every verdict is as logged" in capsys.readouterr().out


def test_every_verdict_is_computed_again(run, policy, capsys):
    assert main(["replay", str(run), "--policy", str(policy)]) == 0
    assert "every verdict is as logged" in capsys.readouterr().out


def test_it_is_shown_under_the_limit(run, capsys):
    assert main(["show", str(run)]) == 0
    assert "limit d 5" in capsys.readouterr().out


def test_without_a_limit_the_contract_s_own_is_in_force(tmp_path, twin, policy):
    with runs.deployment(tmp_path / "run", twin.address, policy) as made:
        status, out, err = made.end()
    assert (status, err) == (0, "")
    assert "(d 10, episode cap 30)" in out


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("21", "limit of outside_corridor should be in [2, 20], the range that the policy was tra"),
        ("nan", "limit"),
    ],
)
def test_a_limit_out_of_the_range_is_refused(policy, capsys, limit, sentence):
    line = ["deploy", "--robot", "serial:/nowhere", "--policy", str(policy), "--limit", limit]
    assert main(line) == 1
    assert sentence in capsys.readouterr().err


def test_evidence_is_of_one_limit(run, policy, capsys):
    line = ["deploy", "--robot", "serial:/nowhere", "--policy", str(policy), "--limit", "6"]
    assert main([*line, "--evidence", str(run.parent / "evidence.json")]) == 1
    assert "evidence cannot be carried over" in capsys.readouterr().err


def test_the_child_is_one_for_the_limit_of_its_logs(run, policy, tmp_path, capsys):
    child = tmp_path / "child.onnx"
    line = ["finetune", "--policy", str(policy), "--log", str(run), "--out", str(child)]
    assert main(line) == 0
    assert "target 2.50" in capsys.readouterr().out
    held = reader.load(child)
    assert held.contract == under(reader.load(policy).contract, (5.0,))
    assert main(["verify", "--policy", str(child)]) == 0
    assert main(["gate", str(child), "--log", str(run), "--policy", str(policy)]) == 1
    assert "at most d 5" in " ".join(capsys.readouterr().out.split())
    # The child learns from the parent's logs again, and no other limit may be put in force.
    grandchild = tmp_path / "grandchild.onnx"
    line = ["finetune", "--policy", str(child), "--other-policy", str(policy), "--log", str(run)]
    assert main([*line, "--out", str(grandchild)]) == 0
    line = ["deploy", "--robot", "serial:/nowhere", "--policy", str(child), "--limit", "10"]
    assert main(line) == 1
    assert "should be in [5, 5]" in capsys.readouterr().err


def test_logs_of_two_limits_are_refused(run, policy, tmp_path, twin, capsys):
    other = deployed(tmp_path, twin, policy, 7, "--explore")
    line = ["finetune", "--policy", str(policy), "--log", str(run), str(other)]
    assert main([*line, "--out", str(tmp_path / "child.onnx")]) == 1
    assert "its limit in force is 7, that of the log before 5" in capsys.readouterr().err
