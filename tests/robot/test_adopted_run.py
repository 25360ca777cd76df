"""A policy from elsewhere on the drive twin: adopted, verified, deployed, replayed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from holdfast.bundle import reader
from holdfast.cli import main
from holdfast.errors import BundleError
from holdfast.log.audit import require_log_prob, require_observed
from holdfast.observer import Observer
from holdfast.robot.run.replay import replay
from holdfast.robot.topics.proposers import introduction
from tests.helpers.data.foreign import contract, saved, small
from tests.helpers.robots import runs

STEPS = 40


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as served:
        yield served


@pytest.fixture(scope="module", params=["mean", "explored"])
def run(request, tmp_path_factory, twin):
    """Return the folder of a run, and whether it explored."""
    folder, explores = tmp_path_factory.mktemp(request.param), request.param == "explored"
    path, bundle = saved(folder, small(shape=(1, 8))), folder / "bundle.onnx"
    line = ["adopt", str(path), "--contract", str(contract(folder)), "--out", str(bundle)]
    assert main([*line, *(["--explore-std", "0.15"] if explores else [])]) == 0
    assert main(["verify", "--policy", str(bundle)]) == 0
    options = ["--episodes", "2", *(["--explore", "--seed", "5"] if explores else [])]
    with runs.deployment(folder / "run", twin.address, bundle, *options) as deployed:
        status, _, err = deployed.end()
    assert (status, err) == (0, "")
    return folder, explores


def test_every_verdict_is_as_logged(run, capsys):
    folder, _ = run
    assert main(["replay", str(folder / "run"), "--policy", str(folder / "bundle.onnx")]) == 0
    assert "every verdict is as logged" in capsys.readouterr().out


def test_the_run_has_something_to_show(run):
    folder, explores = run
    log = runs.read(folder / "run")
    assert [len(episode.now_s) for episode in log.episodes] == [STEPS + 1] * 2
    assert log.info.exploring is explores
    moved = [np.ptp(episode.signals["position"], axis=0).max() for episode in log.episodes]
    assert min(moved) > 0.3
    assert not any(episode.intervened.any() for episode in log.episodes)


def test_the_monitor_predicts_nothing(run):
    folder, _ = run
    log = runs.read(folder / "run")
    assert not log.info.critics
    assert np.isnan(log.steps["cost_to_go"]).all()
    assert not any("slowdown_budget" in codes for codes in log.reasons)
    assert json.loads((folder / "run" / "summary.json").read_text())["bundle_hash"]


def test_the_history_is_of_the_episode_s_own_periods(run):
    """Built again from the logged signals alone."""
    folder, _ = run
    log = runs.read(folder / "run")
    observe = Observer(log.info.contract)
    for episode in log.episodes:
        rows = [
            {name: values[k] for name, values in episode.signals.items()}
            for k in range(len(episode.now_s))
        ]
        again = [observe(row, rows[max(k - 2, 0) : k][::-1]) for k, row in enumerate(rows)]
        np.testing.assert_array_equal(episode.observation, again)
        require_observed(log, episode, len(again))
        speeds = episode.observation[:, 4:7]
        np.testing.assert_array_equal(speeds[0], speeds[0, :1].repeat(3))
        assert (speeds[5, 0] != speeds[5, 1]) & (speeds[5, 1] != speeds[5, 2])


def test_the_proposals_are_the_policy_s(run):
    folder, explores = run
    log, held = runs.read(folder / "run"), reader.load(folder / "bundle.onnx")
    for episode in log.episodes:
        mean = held.outputs(episode.observation[:-1], ("action",))[0]
        away = np.abs(episode.proposed[:-1] - mean).max(axis=1)
        if explores:
            assert require_log_prob(log, episode, held) == STEPS
            assert away.mean() > 0.05
        else:
            np.testing.assert_array_equal(away, 0.0)
            assert np.isnan(episode.log_prob).all()


def test_a_replay_that_is_told_of_critics_differs(run):
    """The log's flag decides: were the NaN taken for a prediction, every step would be slowed."""
    folder, _ = run
    log = runs.read(folder / "run")
    assert not replay(log).differs(log).any()
    object.__setattr__(log.info, "critics", True)
    assert replay(log).differs(log).any()


def test_without_a_density_nothing_is_explored(tmp_path, capsys):
    path = saved(tmp_path, small())
    bundle = tmp_path / "bundle.onnx"
    line = ["adopt", str(path), "--contract", str(contract(tmp_path)), "--out", str(bundle)]
    assert main(line) == 0
    capsys.readouterr()
    line = ["deploy", "--robot", "serial:/nowhere", "--policy", str(bundle), "--explore"]
    assert main(line) == 1
    said = capsys.readouterr().err
    assert "this policy has no density to explore with" in said
    with pytest.raises(BundleError, match="no density"):  # as in a ROS graph
        introduction(reader.load(bundle), explore=True)
    assert introduction(reader.load(bundle), explore=False)
    assert said.count("\n") == 1
