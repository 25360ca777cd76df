"""Demonstrations: what is read, what is refused, what a clone is, and where training goes on."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import LogError
from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult
from holdfast.log.writer import Recorder
from holdfast.policy.improve.demonstrations import LEAST_STD, clone, read
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models import checkpoint
from holdfast.policy.ship.evaluate import MET_WITHIN, evaluate
from holdfast.policy.ship.export import export, file_hash
from holdfast.policy.train import CHECKPOINT, PROGRESS
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.demonstrators import record_policy
from tests.helpers.data.recordings import info, record_episode, tick

SMALL = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, iterations=2, batch=1040, critic_steps=5
)
OPTIONS = ["--task", "PointCircle-v0", "--batch", "650", "--critic-steps", "2", "--seed", "3"]
DRIVE = ["--task", "DriveCircle-v0", "--batch", "250"]


@pytest.fixture(scope="module")
def demonstrator():
    """Somebody's policy, made under a limit that is not the task's."""
    learner = Learner(dataclasses.replace(SMALL, limit=(40.0,), initial_std=0.4))
    with torch.no_grad():
        learner.policy.body[-1].weight.mul_(10.0)
        learner.policy.log_std[1] = math.log(0.2)
    learner.normaliser.update(torch.randn((500, 5), generator=learner.generator) * 3.0)
    return learner.networks


@pytest.fixture(scope="module")
def logged(demonstrator, tmp_path_factory):
    return record_policy(tmp_path_factory.mktemp("logs") / "monday", demonstrator, 40, seed=1)


@pytest.fixture
def networks():
    return Learner(SMALL).networks


def shown_in(paths, contract):
    return read(paths, contract, resolve(contract.task).make())


def test_what_is_read_of_a_log(tmp_path):
    """What was recorded at step k: see `recordings.tick`. Every fifth step was overridden."""
    recorder = Recorder(tmp_path / "run", info(exploring=False))
    for episode in range(3):
        record_episode(recorder, episode, 200, code="interrupted")
    recorder.step(tick(3, 0))  # nobody saw where that led
    recorder.step(tick(4, 0))
    recorder.step(tick(4, 1, proposed=False))
    recorder.step(tick(4, 2, final=True))
    recorder.episode(0.0, EpisodeResult(4, 2, (2.0,), 0, 0, STOPPED, "tilt_exceeded", ""))
    recorder.close()
    shown = shown_in([tmp_path / "run"], drive_contract())
    assert [len(episode.u) for episode in shown.episodes] == [200, 200, 200, 2]
    first, *_, last = shown.episodes
    assert first.usable.tolist() == [k % 5 > 0 for k in range(200)]
    assert last.usable.tolist() == [False, False]
    np.testing.assert_allclose(first.observation[7], tick(0, 7).observation)
    np.testing.assert_allclose(first.u[:, 0], 0.5)
    summary = shown.summary(drive_contract())
    assert summary["logs"] == [{"run": "run", "sha256": file_hash(tmp_path / "run" / "run_0.mcap")}]
    assert (summary["episodes"], summary["unfinished"]) == (4, 4)
    assert (summary["steps"], summary["overridden"]) == (480, 122)
    # The corridor ends at 0.9 m, and at step k the robot was at x = k.
    assert first.costs.tolist() == [200.0]
    assert summary["costs"] == {"outside_corridor": pytest.approx(602.0 / 4)}


def test_only_samples_reach_beyond_the_limits(tmp_path):
    """Who asks for more than is allowed gets the limit: that is what can be imitated."""
    for name, log_prob in (("sampled", -1.0), ("teleoperated", np.nan)):
        recorder = Recorder(tmp_path / name, info())
        for episode in range(2):
            for step in range(251):
                one = tick(episode, step, final=step == 250)
                proposal = dataclasses.replace(one.proposal, action=np.array([30.0, 1.0]))
                recorder.step(dataclasses.replace(one, proposal=proposal, log_prob=log_prob))
            recorder.episode(0.0, EpisodeResult(episode, 250, (250.0,), 0, 0, COMPLETED))
        recorder.close()
    u = [shown_in([tmp_path / name], drive_contract()).episodes[0].u for name in ("sampled",
         "teleoperated")]  # fmt: skip
    np.testing.assert_allclose(u[0], [[30.0, 0.5]] * 250)
    np.testing.assert_allclose(u[1], [[1.0, 0.5]] * 250)


def test_a_clone_is_as_likely_as_its_demonstrator(networks, demonstrator, logged):
    """No policy makes a Gaussian's actions likelier than it does: H = Σ log σ + ½ log 2πe."""
    shown = shown_in([logged], networks.contract)
    learned = clone(networks, shown, seed=0)
    entropy = float(demonstrator.policy.log_std.detach().sum()) + math.log(2.0 * math.pi * math.e)
    assert entropy - 0.1 < learned["nll"] < entropy + 0.15
    assert learned["std"] == pytest.approx([0.4, 0.2], abs=0.03)
    observation = torch.from_numpy(np.concatenate([e.observation for e in shown.episodes]))
    theirs, ours = (n.policy.means(n.normaliser(observation)) for n in (demonstrator, networks))
    assert float((theirs - ours).abs().mean()) < 0.2 * float((theirs - theirs.mean(0)).abs().mean())


def test_the_same_seed_makes_the_same_clone(demonstrator, tmp_path):
    record_policy(tmp_path / "run", demonstrator, 8, seed=2)
    clones = []
    for seed in (0, 0, 1):
        learner = Learner(SMALL)
        learned = clone(learner.networks, shown_in([tmp_path / "run"], learner.contract), seed)
        clones.append((learned, [p.tolist() for p in learner.policy.parameters()]))
    assert clones[0] == clones[1]
    assert clones[0] != clones[2]


def test_a_clone_explores_though_its_demonstrator_did_not(networks, tmp_path):
    recorder = Recorder(tmp_path / "run", info(exploring=False))
    for episode in range(5):
        for step in range(100):
            one = tick(episode, step, final=step == 99)
            proposal = dataclasses.replace(one.proposal, action=np.array([0.5, 0.0]))
            recorder.step(dataclasses.replace(one, proposal=proposal, log_prob=np.nan))
    recorder.close()
    drive = Learner(TrainSettings(batch=250)).networks
    learned = clone(drive, shown_in([tmp_path / "run"], drive_contract()), seed=0)
    assert learned["std"] == pytest.approx([LEAST_STD, LEAST_STD])
    seen = torch.from_numpy(tick(0, 50).observation).float()
    mean = drive.policy(drive.normaliser(seen[None]))
    torch.testing.assert_close(mean, torch.tensor([[0.5, 0.0]]), atol=0.05, rtol=0.0)


def test_unsafe_demonstrations_lead_to_a_policy_under_the_limit(tmp_path):
    """Who demonstrates was allowed three times the task's limit. CPO brings the clone's cost down,
    and keeps more of its return than random weights have gained meanwhile."""
    task = TrainSettings(task=resolve("PointCircle-v0"), batch=5200, seed=1)
    teacher = Learner(dataclasses.replace(task, limit=(15.0,)))
    for _ in range(16):
        teacher.iterate()
    record_policy(tmp_path / "run", teacher.networks, 40, seed=2)
    pupil, scratch = Learner(task), Learner(task)
    shown = clone(pupil.networks, shown_in([tmp_path / "run"], pupil.contract), seed=1)
    records = [[learner.iterate() for _ in range(8)] for learner in (pupil, scratch)]
    (limit,) = (cost.limit for cost in pupil.contract.costs)
    (began,) = records[0][0]["costs"].values()
    assert shown["costs"]["outside_corridor"] > 2.0 * limit
    assert began > 2.0 * limit
    assert records[0][0]["return"] > 0.7 * shown["return"]
    after = evaluate(pupil.networks, pupil.settings, 200, seed=5)
    assert after.cost_returns.mean() <= (1.0 + MET_WITHIN) * limit
    assert (
        after.returns.mean()
        > 2.0 * evaluate(scratch.networks, scratch.settings, 200, seed=5).returns.mean()
    )


def lines(folder):
    return [json.loads(line) for line in (folder / PROGRESS).read_text().splitlines()]


def test_a_run_that_began_as_a_clone_resumes_exactly_and_remembers_it(logged, tmp_path, capsys):
    shown = ["--demonstrations", str(logged)]
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert main(["train", "--out", str(once), *OPTIONS, "--iterations", "3", *shown]) == 0
    said = capsys.readouterr().out
    assert "40 episodes demonstrated (0 unfinished), 2600 steps, 0 overridden" in said
    assert "clone, in simulation: return" in said
    assert main(["train", "--out", str(twice), *OPTIONS, "--iterations", "1", *shown]) == 0
    run = ["train", "--out", str(twice), "--resume", "--iterations", "3"]
    assert main([*run, *shown]) == 1
    assert "leave --demonstrations out to resume" in capsys.readouterr().err
    assert main(run) == 0
    for out in (once, twice):
        first, *others = lines(out)
        assert first["demonstrations"]["logs"][0]["run"] == "monday"
        assert not any("demonstrations" in record for record in others)
    (a, data), (b, other) = (checkpoint.load(out / CHECKPOINT) for out in (once, twice))
    assert data["settings"].pop("iterations") > other["settings"].pop("iterations")
    assert data == other
    assert data["demonstrations"]["logs"][0]["sha256"] == file_hash(logged / "monday_0.mcap")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_bundle_says_whom_it_began_as(logged, tmp_path):
    learner = Learner(SMALL)
    learner.demonstrations = clone(learner.networks, shown_in([logged], learner.contract), seed=0)
    learner.iterate()
    learner.save(tmp_path / CHECKPOINT)
    export(tmp_path / CHECKPOINT, tmp_path / "policy.onnx", episodes=20)
    held = bundle.load(tmp_path / "policy.onnx")
    assert held.provenance["demonstrations"] == learner.demonstrations


def test_the_first_step_is_taken_from_the_policy_that_ran(logged):
    """What scales observations is the demonstrations' until then; else ρ would not begin at 1."""
    learner = Learner(SMALL)
    learner.demonstrations = clone(learner.networks, shown_in([logged], learner.contract), seed=0)
    rollout = learner.collector.collect(learner.policy, learner.normaliser, 65)
    x, u = learner.evaluate(rollout).x, torch.from_numpy(rollout.u).flatten(0, 1)
    with torch.no_grad():
        log_prob = learner.policy.log_prob(learner.policy(x), u)
    torch.testing.assert_close(log_prob, torch.from_numpy(rollout.log_prob).flatten(), atol=1e-3,
                               rtol=0.0)  # fmt: skip


def overridden(recorder):
    for episode in range(2):
        for step in range(201):
            one = tick(episode, step, final=step == 200)
            verdict = one.verdict._replace(intervened=True)
            recorder.step(dataclasses.replace(one, verdict=verdict))


def few(recorder):
    record_episode(recorder, 0, 20, code="interrupted")
    record_episode(recorder, 1, 20, code="interrupted")


def one_episode(recorder):
    record_episode(recorder, 0, 250)


LIMITS = drive_contract().action


@pytest.mark.parametrize(
    ("changes", "record", "sentence"),
    [
        ({"task": "guard/drive"}, few, "its task should be that of holdfast/DriveCircle-v0, "),
        ({"robot": "drove"}, few, "its robot should be that of .* drive, received drove"),
        ({"period_s": 0.1}, few, "its period_s should be that of .* 0.05, received 0.1"),
        ({"episode_steps": 40}, few, "its episode_steps should be that of .* 250, received 40"),
        (
            {"action": (dataclasses.replace(LIMITS[0], high=3.0), LIMITS[1])},
            few,
            r"its action should be that of .*high=1\.0.* received .*high=3\.0",
        ),
        (
            {"observation": drive_contract().observation[:-1]},
            None,
            "its observation should be that of .*episode_left.* received nothing",
        ),
        ({}, overridden, "the monitor overrode every logged step"),
        ({}, few, "should be at least 256 steps in 2 episodes .* received 32 in 2"),
        ({}, one_episode, "received 200 in 1"),
        ({}, None, "received 0 in 0"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tmp_path, capsys, changes, record, sentence):
    recorder = Recorder(tmp_path / "run", info(contract=drive_contract(**changes)))
    if record:
        record(recorder)
    recorder.close()
    out = tmp_path / "out"
    shown = ["--demonstrations", str(tmp_path / "run")]
    assert main(["train", "--out", str(out), *DRIVE, *shown]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(sentence, err)
    assert not out.exists()


def test_a_reward_that_the_log_cannot_tell_is_refused(tmp_path):
    sources = {"robot": {"forward_speed": 1, "yaw_rate": 1}}
    recorder = Recorder(tmp_path / "run", info(sources=sources))
    record_episode(recorder, 0, 20)
    recorder.close()
    with pytest.raises(LogError, match=r"DriveCircle-v0 pays for signal '.*', which the log"):
        shown_in([tmp_path / "run"], drive_contract())


def test_a_probe_begins_with_random_weights(logged, tmp_path, capsys):
    run = ["train", "--probe", "--out", str(tmp_path / "out"), *OPTIONS]
    assert main([*run, "--demonstrations", str(logged)]) == 1
    assert "leave --demonstrations and --start-from out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_who_learns_from_another_policy_begins_as_it(logged, tmp_path, capsys):
    run = ["train", *OPTIONS, "--algorithm", "off-policy", "--out", str(tmp_path / "run")]
    assert main([*run, "--demonstrations", str(logged)]) == 1
    assert "off-policy begins as the policy that acts" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
