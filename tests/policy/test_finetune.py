"""Learning from logged episodes: what counts, what is masked, and that it lowers a real cost."""

import dataclasses

import numpy as np
import pytest
import torch
from recordings import info, record_episode, tick

from holdfast.errors import LogError, TrainingError
from holdfast.policy.evaluate import evaluate
from holdfast.policy.experience import Experience, Trajectory, logged_advantages, read
from holdfast.policy.finetune import Finetuner, FinetuneSettings
from holdfast.policy.learner import Learner
from holdfast.policy.rollout import Collector
from holdfast.policy.settings import TrainSettings
from holdfast.robot.log_format import COMPLETED, STOPPED, EpisodeResult
from holdfast.robot.recorder import Recorder
from holdfast.safety_monitor.messages import Check, Reason, State
from holdfast.sim.tasks import make

DRIVE = make("DriveCircle-v0")


def trajectory(steps=5, overridden=(), completed=True, seed=0, n=5, actions=2):
    rng = np.random.default_rng(seed)
    mask = np.zeros(steps, bool)
    mask[list(overridden)] = True
    return Trajectory(
        observation=rng.normal(size=(steps + 1, n)).astype(np.float32),
        u=rng.normal(size=(steps, actions)),
        log_prob=rng.normal(size=steps),
        reward=rng.normal(size=steps),
        costs=rng.random((steps, 1)),
        overridden=mask,
        completed=completed,
        known=np.zeros((0, n), np.float32),
    )


@pytest.fixture
def learner():
    return Learner(
        TrainSettings(task="PointCircle-v0", algorithm="trpo", batch=4160, seed=1, critic_steps=40)
    )


def test_overridden_steps_end_the_trajectory_and_carry_no_weight(learner):
    contract = learner.contract
    plain = trajectory(6)
    cut = dataclasses.replace(plain, overridden=np.array([0, 0, 0, 1, 0, 0], bool))
    experience = Experience.of([cut, trajectory(3, seed=1)], contract)
    assert experience.weight[0].tolist() == [True, True, True, False, True, True]
    assert experience.ended[0].tolist() == [False, False, True, False, False, True]
    assert experience.valid[1].tolist() == [True] * 3 + [False] * 3
    advantage, value = logged_advantages(experience, learner.networks, 0.9, 0.8)
    # The step before the override knows nothing of what came of it: δ alone, bootstrapped.
    delta = plain.reward[2] + 0.9 * value[0, 3, 0] - value[0, 2, 0]
    assert advantage[0, 2, 0] == pytest.approx(delta)


def test_stopped_episode_is_bootstrapped_and_completed_one_is_not(learner):
    done, cut = trajectory(4), trajectory(4, completed=False)
    experience = Experience.of([done, cut], learner.contract)
    assert experience.over.tolist() == [[False] * 3 + [True], [False] * 4]


def test_nothing_to_learn_from_is_refused(learner):
    with pytest.raises(LogError, match="no episode"):
        Experience.of([], learner.contract)
    with pytest.raises(LogError, match="overrode every logged step"):
        Experience.of([trajectory(3, overridden=(0, 1, 2))], learner.contract)


@pytest.mark.parametrize(("exploring", "sentence"), [(False, "not sampled"), (True, None)])
def test_log_must_have_explored(tmp_path, exploring, sentence):
    contract = info().contract
    recorder = Recorder(tmp_path / "run", info(exploring=exploring))
    record_episode(recorder, 0, 6)
    recorder.close()
    if sentence:
        with pytest.raises(LogError, match=sentence):
            read(tmp_path / "run", contract, DRIVE)
        return
    (episode,) = read(tmp_path / "run", contract, DRIVE)
    # What was recorded at step k: see recordings.tick.
    np.testing.assert_allclose(episode.u[:, 1], 0.01 * np.arange(6) / 2.0)
    np.testing.assert_allclose(episode.log_prob, -1.0 - np.arange(6))
    np.testing.assert_allclose(episode.costs[:, 0], [1, 0, 1, 0, 1, 0])
    assert episode.overridden.tolist() == [True, False, False, False, False, True]


def test_what_the_monitor_objected_to_is_not_what_the_robot_is_like(tmp_path):
    """`recordings.tick` says "episode_budget" at two of three steps; others are said here."""
    recorder = Recorder(tmp_path / "run", info())
    for step, codes in enumerate(
        (
            [],
            ["unfamiliar"],
            ["released", "unfamiliar"],
            ["tilt_exceeded"],
            ["unfamiliar", "stale"],
            [],
        )
    ):
        reasons = tuple(Reason(Check.EVENT, code, State.LIMITED, "text") for code in codes)
        one = tick(0, step, final=step == 5)
        recorder.step(dataclasses.replace(one, verdict=one.verdict._replace(reasons=reasons)))
    recorder.episode(200.0, EpisodeResult(0, 5, (3.0,), 0, 0, COMPLETED))
    record_episode(recorder, 1, 6)
    recorder.close()
    first, second = read(tmp_path / "run", info().contract, DRIVE)
    np.testing.assert_array_equal(first.known, first.observation[[0, 1, 2, 5]])
    np.testing.assert_array_equal(second.known, second.observation)


@pytest.mark.parametrize(
    ("code", "obeyed"),
    [("device_fault", 7), ("link_lost", 7), ("outside_geofence", 12), ("interrupted", 12)],
)
def test_what_the_device_may_not_have_obeyed_is_not_learned(tmp_path, code, obeyed):
    """A watchdog of 0.2 s and a period of 0.05 s: five steps may have gone by unnoticed."""
    recorder = Recorder(tmp_path / "run", info(identity={"watchdog_s": 0.2}))
    for episode, steps in enumerate((12, 5 if obeyed < 12 else 12)):
        for step in range(steps + 1):
            recorder.step(tick(episode, step, final=step == steps))
        result = EpisodeResult(episode, steps, (6.0,), 0, 0, STOPPED, code)
        recorder.episode(200.0 + 1000.0 * episode, result)
    recorder.close()
    found = read(tmp_path / "run", info().contract, DRIVE)
    assert [len(t.u) for t in found] == ([7] if obeyed < 12 else [12, 12])
    first = found[0]
    for values in (first.log_prob, first.reward, first.costs, first.overridden):
        assert len(values) == obeyed
    assert len(first.observation) == len(first.known) == obeyed + 1
    assert not first.completed


def test_a_log_that_does_not_tell_the_watchdog_is_refused(tmp_path):
    recorder = Recorder(tmp_path / "run", info(identity={"watchdog_s": None}))
    recorder.step(tick(0, 0))
    recorder.step(tick(0, 1, final=True))
    recorder.episode(200.0, EpisodeResult(0, 1, (1.0,), 0, 0, STOPPED, "device_fault"))
    recorder.close()
    with pytest.raises(LogError, match="its identity should hold watchdog_s, in seconds"):
        read(tmp_path / "run", info().contract, DRIVE)


def test_log_of_another_contract_is_refused(tmp_path):
    recorder = Recorder(tmp_path / "run", info())
    record_episode(recorder, 0, 3)
    recorder.close()
    other = dataclasses.replace(info().contract, task="holdfast/Other-v0")
    with pytest.raises(LogError, match="its contract is"):
        read(tmp_path / "run", other, DRIVE)


def test_a_log_without_what_the_task_pays_for_is_refused(tmp_path):
    recorder = Recorder(tmp_path / "run", info())
    record_episode(recorder, 0, 3)
    recorder.close()
    gather = make("DriveGather-v0")
    with pytest.raises(LogError, match="DriveGather-v0 pays for signal 'apples_taken', which"):
        read(tmp_path / "run", info().contract, gather)


def simulated(learner, episodes_seed):
    """Episodes of the learner's policy in simulation, as a log would hold them."""
    learner.batch.rng = np.random.default_rng(episodes_seed)
    generator = torch.Generator().manual_seed(episodes_seed)
    steps = learner.contract.episode_steps
    rollout = Collector(learner.batch, generator).collect(learner.policy, learner.normaliser, steps)
    x = learner.normaliser(torch.from_numpy(rollout.observation))
    with torch.no_grad():
        log_prob = learner.policy.log_prob(learner.policy(x), torch.from_numpy(rollout.u))
    last = rollout.last_observation[None]
    observation = np.concatenate((rollout.observation, last))
    return [
        Trajectory(
            observation=observation[:, i],
            u=rollout.u[:, i].astype(np.float64),
            log_prob=log_prob[:, i].double().numpy(),
            reward=rollout.reward[:, i],
            costs=rollout.costs[:, i],
            overridden=np.zeros(steps, bool),
            completed=True,
            known=observation[:, i],
        )
        for i in range(learner.batch.copies)
    ]


@pytest.fixture
def over_the_limit(learner):
    """A policy that unconstrained training brought somewhat above its limit."""
    for _ in range(30):
        if learner.iterate()["costs"]["outside_corridor"] > 12.0:
            break
    contract = learner.contract
    assert (
        evaluate(learner.networks, learner.settings, 200, seed=5).cost_returns.mean()
        > contract.costs[0].limit
    )
    return learner


def test_it_lowers_the_cost_inside_the_trust_region(over_the_limit):
    learner = over_the_limit
    before = evaluate(learner.networks, learner.settings, 300, seed=6).cost_returns.mean()
    experience = Experience.of(simulated(learner, 7), learner.contract)
    settings = FinetuneSettings()
    tuner = Finetuner(learner.networks, experience, settings, 0.99, 0.95)
    assert torch.allclose(tuner.ratio(), torch.ones(()), atol=1e-4)  # nothing has changed yet
    assert tuner.cost().mean[0] == pytest.approx(experience.costs.sum(axis=(1, 2)).mean(), rel=1e-3)
    learned = tuner.run()
    after = evaluate(learner.networks, learner.settings, 300, seed=6).cost_returns.mean()
    assert after < before - 2.0
    assert learned["steps"] > 0
    assert learned["kl"] <= settings.max_kl
    assert learned["effective_share"] >= settings.min_share


def test_a_policy_under_the_target_is_left_alone(learner):
    """The step that learns nothing: cost 0 everywhere is under any target."""
    trajectories = [dataclasses.replace(t, costs=0.0 * t.costs) for t in simulated(learner, 3)]
    experience = Experience.of(trajectories, learner.contract)
    before = [p.detach().clone() for p in learner.policy.parameters()]
    tuner = Finetuner(learner.networks, experience, FinetuneSettings(critic_steps=600), 0.99, 0.95)
    learned = tuner.run()
    assert learned["steps"] == 0
    assert learned["ended"] == "the bounded costs meet the target"
    after = learner.policy.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": 0.0}, "target should be in"),
        ({"min_share": 1.0}, "min_share should be in"),
        ({"max_kl": 0.0}, "max_kl should be above 0"),
        ({"bound": -1.0}, "bound at least 0"),
    ],
)
def test_bad_settings_are_refused(change, sentence):
    with pytest.raises(TrainingError, match=sentence):
        FinetuneSettings(**change)
