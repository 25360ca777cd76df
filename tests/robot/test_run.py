"""A run in lockstep: its log, checked against its own signals, the twin and a fresh monitor."""

from __future__ import annotations

import json

import numpy as np
import pytest

from holdfast.bundle.reader import load
from holdfast.log.format import COMPLETED, NO_STEP, STOPPED
from holdfast.robot.run.replay import replay
from holdfast.robot.view.results import results
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.messages import State
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs

EPISODES = 3
BUDGET = 12.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three explored episodes of a policy that circles at 0.6 m, sometimes out of the corridor."""
    folder = tmp_path_factory.mktemp("explored")
    policy = write_bundle(folder / "policy.onnx", action=(0.6, 1.0), gain=0.01, log_std=-1.5)
    options = ["--episodes", str(EPISODES), "--explore", "--seed", "3"]
    options += ["--episode-cap", f"outside_corridor={BUDGET:g}"]
    with (
        runs.twin(folder, lockstep=True) as twin,
        runs.deployment(folder / "run", twin.address, policy, *options) as run,
    ):
        status, out, err = run.end()
        assert (status, err) == (0, "")
        assert out.count("\nepisode") == EPISODES
        assert out.count(" steps, return ") == EPISODES
        assert f"mean of {EPISODES} episodes: return " in out
        truth = [json.loads(line) for line in twin.truth.read_text().splitlines()]
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def log(folder):
    return runs.read(folder / "run", contract=drive_contract())


def test_the_run_has_something_to_show(log):
    """Otherwise the tests below would be empty: costs, a stop by the budget, no misses."""
    assert [episode.result.episode for episode in log.episodes] == [0, 1, 2]
    ended = {episode.result.ended for episode in log.episodes}
    assert ended == {COMPLETED, STOPPED}
    assert log.info.exploring
    assert log.info.episode_cap == {"outside_corridor": BUDGET}
    assert not log.torn
    assert log.lost_steps == 0
    assert sum(episode.result.deadline_misses for episode in log.episodes) == 0


def test_billed_costs_are_those_of_the_logged_signals(log):
    cost_model = CostModel(log.info.contract)
    for episode in log.episodes:
        again = cost_model(episode.signals)
        np.testing.assert_array_equal(episode.costs[1:], again[1:])
        np.testing.assert_array_equal(episode.costs[0], 0.0)  # no action led there
        assert episode.result.costs == tuple(again[1:].sum(axis=0))


def test_returns_are_those_of_the_logged_signals(folder, log):
    """In log and summary, and near the twin's own books, which know the true pose."""
    task = resolve("DriveCircle-v0").make()
    truth = json.loads((folder / "truth.json").read_text())
    summary = json.loads((folder / "run" / "summary.json").read_text())
    returns = [episode.result.reward_return for episode in log.episodes]
    for episode, record in zip(log.episodes, truth, strict=True):
        led_to = {name: values[1:] for name, values in episode.signals.items()}
        paid = episode.result.reward_return
        assert paid == pytest.approx(task.reward(led_to).sum(), rel=1e-9)
        assert paid == pytest.approx(record["reward_sum"], rel=0.05)
        assert paid > 10.0
    assert [row["reward_return"] for row in summary["episodes"]] == returns
    assert summary["return_mean"] == pytest.approx(np.mean(returns))


def test_an_episode_is_completed_or_stopped_by_its_budget(log):
    for episode in log.episodes:
        result = episode.result
        assert len(episode.now_s) == result.steps + 1
        (spent,) = result.costs
        if result.ended == COMPLETED:
            assert result.steps == log.info.contract.episode_steps
            assert spent < BUDGET
            assert not episode.intervened.any()
        else:
            assert result.code == "episode_cap_spent"
            assert spent == BUDGET  # as much as was allowed, and no more
            assert episode.reasons[-1] == ("episode_cap_spent",)
            assert State(episode.state[-1]) is State.STOPPED
            assert result.interventions == 1


def test_the_twins_own_books_agree(folder, log):
    truth = json.loads((folder / "truth.json").read_text())
    assert [record["steps"] for record in truth] == [e.result.steps for e in log.episodes]
    for record, episode in zip(truth, log.episodes, strict=True):
        billed = record["costs"]["outside_corridor"]
        # Encoders and gyro put the robot a little elsewhere than it is: an edge may differ.
        assert abs(sum(billed) - episode.result.costs[0]) <= 2
        off = np.array(record["position"]) - episode.signals["position"][1:]
        assert np.abs(off).max() < 0.05


def test_applied_actions_follow_from_the_proposed(log):
    contract = log.info.contract
    for episode in log.episodes:
        previous = np.zeros(contract.action_size)
        rows = len(episode.now_s) - 1
        for k in range(rows):
            wanted = contract.admissible(previous, episode.proposed[k])
            np.testing.assert_array_equal(episode.applied[k], wanted)
            previous = episode.applied[k]


def test_log_probabilities_are_the_policys(folder, log):
    bundle = load(folder / "policy.onnx")
    contract = bundle.contract
    for episode in log.episodes:
        for k in range(len(episode.now_s) - 1):
            mean, log_std = bundle.act(episode.observation[k])
            noise = contract.normalised(episode.proposed[k]) - contract.normalised(mean)
            noise /= np.exp(log_std)
            density = -0.5 * noise**2 - log_std - 0.5 * np.log(2.0 * np.pi)
            assert episode.log_prob[k] == pytest.approx(density.sum(), abs=1e-6)


def test_observations_are_built_from_the_signals(log):
    for episode in log.episodes:
        signals, rows = episode.signals, len(episode.now_s)
        np.testing.assert_array_equal(episode.observation[:, 0:2], signals["position"])
        np.testing.assert_array_equal(episode.observation[:, 2:3], np.cos(signals["heading"]))
        applied = log.info.contract.normalised(episode.applied[:-1])
        np.testing.assert_array_equal(episode.observation[1:, 6:8], applied)
        np.testing.assert_allclose(episode.observation[:, 8], 1.0 - np.arange(rows) / 250)


def test_time_passes_by_the_period(log):
    for episode in log.episodes:
        np.testing.assert_allclose(np.diff(episode.now_s), 0.05, atol=1e-9)


def test_nothing_is_proposed_while_it_may_not_be(log):
    idle = log.steps["step"] == NO_STEP
    assert idle.sum() >= EPISODES
    assert not log.steps["proposed"][idle].any()
    assert not log.steps["applied"][idle].any()
    assert np.isnan(log.steps["log_prob"][idle]).all()


def test_the_summary_says_what_the_log_says(folder, log):
    summary = json.loads((folder / "run" / "summary.json").read_text())
    costs = [episode.result.costs[0] for episode in log.episodes]
    assert summary["cost_mean"] == {"outside_corridor": pytest.approx(np.mean(costs))}
    assert summary["steps"] == sum(episode.result.steps for episode in log.episodes)
    assert summary["stopped_episodes"] == sum(cost == BUDGET for cost in costs)
    assert summary["contract_hash"] == log.info.contract.hash
    assert summary["bundle_hash"] == load(folder / "policy.onnx").hash == log.info.bundle_hash
    counted = results(log).changed
    assert summary["interventions_by_reason"] == counted
    assert 0 < sum(counted.values()) >= summary["interventions"]
    assert summary["error"] == ""
    assert [row["steps"] for row in summary["episodes"]] == [e.result.steps for e in log.episodes]


def test_the_log_is_enough_to_replay_the_monitor(log):
    """To get every verdict again, bit for bit."""
    again = replay(log)
    for name in ("observation", "applied", "costs", "state", "intervened"):
        np.testing.assert_array_equal(getattr(again, name), log.steps[name])
    assert again.reasons == log.reasons
    assert again.refusals == {}
    assert not again.differs(log).any()


def test_the_same_seeds_give_the_same_run(folder, log, tmp_path):
    """With another twin, another process and another day, but for the wall clock."""
    options = ["--episodes", "1", "--explore", "--seed", "3"]
    options += ["--episode-cap", f"outside_corridor={BUDGET:g}"]
    with (
        runs.twin(tmp_path, lockstep=True) as twin,
        runs.deployment(tmp_path / "run", twin.address, folder / "policy.onnx", *options) as run,
    ):
        assert run.end()[0] == 0
    (again,) = run.log().episodes
    for name in ("observation", "proposed", "applied", "log_prob", "costs", "state"):
        np.testing.assert_array_equal(getattr(again, name), getattr(log.episodes[0], name))
