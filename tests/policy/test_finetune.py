"""Learning from logged episodes: what counts, what is masked, and that it lowers a real cost."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from mcap.writer import CompressionType

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import LogError, TrainingError
from holdfast.log import reader
from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult
from holdfast.log.writer import Recorder
from holdfast.policy.improve import finetune as finetuning
from holdfast.policy.improve.experience import Experience, Trajectory, logged_advantages, read
from holdfast.policy.improve.finetune import SPENT, Finetuner, FinetuneSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.ship.export import file_hash
from holdfast.safety_monitor.messages import Check, Reason, State
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import write_bundle
from tests.helpers.data.mended import forged, rewritten
from tests.helpers.data.recordings import info, tick
from tests.helpers.data.trajectories import simulated

DRIVE = resolve("DriveCircle-v0").make()


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The bundle that made the logs below."""
    return bundle.load(write_bundle(tmp_path_factory.mktemp("bundle") / "policy.onnx", gain=0.01))


def logged(folder, held, alter=lambda one: one, episodes=(6,), stop=None, torn=False, **changes):
    """Record episodes of `recordings.tick`, each with its log-probability under the bundle.

    Args:
        alter: changes a tick. stop: the code of a stop that ends the last episode.
        torn: the last episode's end is not logged.
    """
    recorder = Recorder(folder, info(bundle_hash=held.hash, run=folder.name, **changes))
    for number, steps in enumerate(episodes):
        for step in range(steps + 1):
            one = tick(number, step, final=step == steps)
            mean, log_std = held.act(one.observation)
            log_prob = bundle.log_prob(one.proposal.action, mean, log_std, held.contract)
            recorder.step(alter(dataclasses.replace(one, log_prob=log_prob)))
        stopped = stop is not None and number == len(episodes) - 1
        if stopped:
            recorder.event(100.0, "stop", stop)
        short = "interrupted" if steps < held.contract.episode_steps else ""
        code = stop if stopped else short
        ended = (STOPPED if code else COMPLETED, code)
        if not torn or number < len(episodes) - 1:
            recorder.episode(200.0, EpisodeResult(number, steps, (float(steps),), 0, 0, *ended))
    recorder.close()
    return folder


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
        TrainSettings(
            task=resolve("PointCircle-v0"), algorithm="trpo", batch=4160, seed=1, critic_steps=40
        )
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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("child.onnx", "exists; give another --out, a bundle is never replaced by its child"),
        (
            "child.checkpoint.safetensors",
            "is there without its bundle child.onnx, as a run that was killed leaves it; delete "
            "it, or give another --out",
        ),
    ],
)
def test_no_file_is_replaced_by_a_child(tmp_path, capsys, name, said):
    out, mine = tmp_path / "child.onnx", tmp_path / name
    mine.write_bytes(b"a week's work")
    assert main(["finetune", "--policy", "parent.onnx", "--log", "run", "--out", str(out)]) == 1
    assert capsys.readouterr().err == f"holdfast: {mine}: {said}\n"
    assert mine.read_bytes() == b"a week's work"


def test_nothing_to_learn_from_is_refused(learner):
    with pytest.raises(LogError, match="no episode"):
        Experience.of([], learner.contract)
    with pytest.raises(LogError, match="overrode every logged step"):
        Experience.of([trajectory(3, overridden=(0, 1, 2))], learner.contract)


def test_one_episode_tells_no_error_of_its_cost(tmp_path, held, monkeypatch):
    """It is refused before anything is learned, so that the networks are not needed here."""
    monkeypatch.setattr(finetuning, "opened", lambda *_: (held, None, {}, TrainSettings()))
    log, out = logged(tmp_path / "run", held), tmp_path / "child.onnx"
    with pytest.raises(LogError, match=r"two episodes or more, so that .* received 1$"):
        finetuning.finetune(held.path, [log], out, FinetuneSettings())
    assert not list(tmp_path.glob("child*"))


def test_what_is_read_of_a_log(tmp_path, held):
    """What was recorded at step k: see recordings.tick."""
    made = read([logged(tmp_path / "run", held)], held, DRIVE)
    (episode,) = made.trajectories
    np.testing.assert_allclose(episode.u[:, 1], 0.01 * np.arange(6) / 2.0)
    np.testing.assert_allclose(episode.costs[:, 0], 1.0)
    assert episode.overridden.tolist() == [True, False, False, False, False, True]
    assert made.disobeyed == 0
    (entry,) = made.logs
    assert entry["sha256"] == file_hash(tmp_path / "run" / "run_0.mcap")


def test_log_must_have_explored(tmp_path, held):
    with pytest.raises(LogError, match="not sampled"):
        read([logged(tmp_path / "run", held, exploring=False)], held, DRIVE)


def test_what_the_monitor_objected_to_is_not_what_the_robot_is_like(tmp_path, held):
    """`recordings.tick` says "slowdown_budget" at two of three steps; others are said here."""
    said = [[], ["unfamiliar"], ["released", "unfamiliar"], ["tilt_exceeded"],
            ["unfamiliar", "stale"], []]  # fmt: skip

    def alter(one):
        if one.episode:
            return one
        codes = said[one.step]
        reasons = tuple(Reason(Check.EVENT, code, State.LIMITED, "text") for code in codes)
        return dataclasses.replace(one, verdict=one.verdict._replace(reasons=reasons))

    run = logged(tmp_path / "run", held, alter, episodes=(5, 6))
    first, second = read([run], held, DRIVE).trajectories
    np.testing.assert_array_equal(first.known, first.observation[[0, 1, 2, 5]])
    np.testing.assert_array_equal(second.known, second.observation)


def test_log_of_another_contract_is_refused(tmp_path, held):
    other = dataclasses.replace(info().contract, task="holdfast/Other-v0")
    with pytest.raises(LogError, match="its contract is"):
        read([logged(tmp_path / "run", held, contract=other)], held, DRIVE)


def test_log_of_another_bundle_needs_that_bundle(tmp_path, held):
    child = bundle.load(write_bundle(tmp_path / "child.onnx", gain=0.02))
    run = logged(tmp_path / "run", held)
    with pytest.raises(LogError, match=r"made by another bundle .* name it with --other-policy"):
        read([run], child, DRIVE)
    assert len(read([run], child, DRIVE, [held]).trajectories) == 1


def test_a_log_without_what_the_task_pays_for_is_refused(tmp_path, held):
    gather = resolve("DriveGather-v0").make()
    with pytest.raises(LogError, match="DriveGather-v0 pays for signal 'apples_taken', which"):
        read([logged(tmp_path / "run", held)], held, gather)


def at_step(step, **values):
    """Change one step's tick, its verdict, its signals or its proposal."""

    def alter(one):
        if one.step != step:
            return one
        for name, value in values.items():
            if name in one.verdict._fields:
                one = dataclasses.replace(one, verdict=one.verdict._replace(**{name: value}))
            elif name in one.sources["robot"].signals:
                signals = {**one.sources["robot"].signals, name: np.asarray(value)}
                robot = dataclasses.replace(one.sources["robot"], signals=signals)
                one = dataclasses.replace(one, sources={"robot": robot})
            elif name == "proposed":
                proposal = dataclasses.replace(one.proposal, action=np.asarray(value))
                one = dataclasses.replace(one, proposal=proposal)
            else:
                one = dataclasses.replace(one, **{name: value})
        return one

    return alter


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"costs": (-5.0,)}, "step 3: cost 'outside_corridor' should be 1, .* received -5"),
        ({"costs": (1e300,)}, "should be 1, as its signals say, received 1e\\+300"),
        ({"costs": (math.nan,)}, "should be 1, as its signals say, received nan"),
        ({"costs": (0.0,)}, "should be 1, as its signals say, received 0"),
        ({"log_prob": -1.0}, "episode 0, step 3: log_prob should be .* received -1"),
        ({"log_prob": 1e300}, "log_prob should be .* received 1e\\+300"),
        ({"proposed": [0.5, 0.9]}, "log_prob should be"),
        ({"observation": np.full(9, 1e300)}, "log_prob should be"),
        ({"forward_speed": [1e300]}, "forward_speed should be within 1e\\+06 in SI units"),
        ({"position": [1e300, 0.0]}, "position should be within"),
        (
            {"action": np.array([1e9, 0.0])},
            "step 3: the applied forward_speed should be between -1",
        ),
        ({"action": np.array([0.0, math.nan])}, "applied yaw_rate should be .* received nan"),
        ({"state": 9}, "state should be in 0 to 4, received 9"),
    ],
)
def test_a_log_that_says_what_is_not_so_is_refused(tmp_path, held, values, sentence):
    with pytest.raises(LogError, match=sentence):
        read([logged(tmp_path / "run", held, at_step(3, **values))], held, DRIVE)


def test_a_log_that_lost_periods_teaches_nothing(tmp_path, held):
    """What is missing may be what cost most."""
    path = logged(tmp_path / "run", held, episodes=(6, 6))
    log = reader.read(path)
    forged(log, 0, tmp_path / "fewer.mcap", sequence=int(log.steps["sequence"][-1]) + 2)
    with pytest.raises(LogError, match="not in order"):
        read([tmp_path / "fewer.mcap"], held, DRIVE)
    last = len(log.steps) - 1
    forged(log, last, tmp_path / "gap.mcap", sequence=int(log.steps["sequence"][-1]) + 2)
    with pytest.raises(LogError, match="2 periods not logged, and nobody can say what they cost"):
        read([tmp_path / "gap.mcap"], held, DRIVE)


@pytest.mark.parametrize("nothing", [math.nan, math.inf])
def test_an_episode_is_learned_from_up_to_where_its_readings_are_whole(tmp_path, held, nothing):
    """A reading that is NaN stops the robot, and makes no critic that is NaN."""
    run = logged(tmp_path / "run", held, at_step(4, forward_speed=[nothing]))
    (episode,) = read([run], held, DRIVE).trajectories
    assert len(episode.u) == 3
    assert not episode.completed
    assert np.isfinite(episode.reward).all()
    run = logged(tmp_path / "early", held, at_step(1, position=[nothing, 0.0]))
    with pytest.raises(LogError, match="no episode"):
        Experience.of(read([run], held, DRIVE).trajectories, held.contract)


@pytest.mark.parametrize(
    ("stop", "left"),
    [("device_fault", 1), ("another_sender", 1), ("link_lost", 1), ("interrupted", 2)],
)
@pytest.mark.parametrize("torn", [False, True])
def test_what_the_device_may_not_have_obeyed_is_left_out(tmp_path, held, stop, left, torn):
    run = logged(tmp_path / "run", held, episodes=(6, 4), stop=stop, torn=torn)
    made = read([run], held, DRIVE)
    assert len(made.trajectories) == left
    assert made.disobeyed == 2 - left


@pytest.mark.parametrize("how", ["again", "copy", "link", "file", "packed"])
def test_one_run_is_given_once(tmp_path, held, how):
    run = logged(tmp_path / "run", held)
    other = tmp_path / "other"
    if how == "again":
        other = run
    elif how == "copy":
        other.mkdir()
        shutil.copy(run / "run_0.mcap", other / "other_0.mcap")
    elif how == "link":
        other.symlink_to(run)
    elif how == "file":
        other = run / "run_0.mcap"
    else:
        other.mkdir()
        rewritten(run / "run_0.mcap", other / "other_0.mcap", CompressionType.ZSTD)
    with pytest.raises(LogError, match="are the same run; give it once"):
        read([run, other], held, DRIVE)
    later = logged(
        tmp_path / "tuesday", held, lambda one: dataclasses.replace(one, now_s=one.now_s + 1.0)
    )
    assert len(read([run, later], held, DRIVE).trajectories) == 2


def test_what_is_not_finite_is_not_written(learner):
    learned = {"costs_before": {"c": {"mean": 1.0}}, "costs_after": {}, "kl": 0.0}
    finetuning._require_finite(learner.networks, learned)
    with pytest.raises(TrainingError, match=r"not finite \(kl\), so no child is written"):
        finetuning._require_finite(learner.networks, {**learned, "kl": math.nan})
    with torch.no_grad():
        next(iter(learner.networks.critic.parameters())).fill_(math.nan)
    with pytest.raises(TrainingError, match=r"not finite \(critic"):
        finetuning._require_finite(learner.networks, learned)


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
    tuner.episode_costs -= 1e3  # the linear estimate falls below 0, which no cost does
    assert tuner.cost().mean.tolist() == [0.0]
    assert learned["steps"] > 0
    assert learned["kl"] <= settings.max_kl
    assert learned["effective_share"] >= settings.min_share
    assert learned["ended"] in ("the bounded costs meet the target", SPENT)
    # A target out of reach: the logs tell of a few steps, and that is no failure.
    far = dataclasses.replace(settings, target=0.01, max_kl=0.02)
    again = Experience.of(simulated(learner, 8), learner.contract)
    learned = Finetuner(learner.networks, again, far, 0.99, 0.95).run()
    assert learned["steps"] > 0
    assert learned["ended"] == SPENT


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
        ({"bound": -1.0}, "bound should be at least 0"),
    ],
)
def test_bad_settings_are_refused(change, sentence):
    with pytest.raises(TrainingError, match=sentence):
        FinetuneSettings(**change)
