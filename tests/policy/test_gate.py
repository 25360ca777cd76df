"""The gate rejects a costly child, and does not try one that the logs say nothing of."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.log.writer import Recorder
from holdfast.policy.improve import finetune
from holdfast.policy.improve import gate as gates
from holdfast.policy.improve.experience import Experience
from holdfast.policy.improve.finetune import CostEstimate, Finetuner, FinetuneSettings
from holdfast.policy.improve.gate import Answer, Case, GateSettings, answer_of, gate
from holdfast.policy.improve.reach import divergence, effective_share
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.ship.evaluate import evaluate
from holdfast.safety_monitor.familiarity import Familiarity
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import write_bundle
from tests.helpers.data.recordings import info, record_episode
from tests.helpers.data.trajectories import simulated
from tests.helpers.robots.parameters import parameters


@pytest.fixture(scope="module")
def behaviour():
    """A policy that costs nearly nothing, with critics that know a little."""
    settings = TrainSettings(
        task=resolve("PointCircle-v0"), algorithm="cpo", batch=4160, seed=1, critic_steps=40
    )
    learner = Learner(settings)
    for _ in range(3):
        learner.iterate()
    return learner


@pytest.fixture(scope="module")
def logged(behaviour):
    """Episodes of 64 of the task's 65 steps."""
    return simulated(behaviour, 5)


def familiarity_of(trajectories, far=0.0):
    """A familiarity that knows these observations, or, far away, none of them."""
    rows = np.concatenate([t.observation for t in trajectories]).astype(np.float64)
    mean = rows.mean(axis=0) + far * (rows.std(axis=0) + 1e-3)
    whitening = np.diag(1.0 / (rows.std(axis=0) + 1e-3))
    z = (rows - rows.mean(axis=0)) @ whitening
    reference = float(np.quantile((z * z).sum(axis=1), 0.99))
    return Familiarity(
        tuple(mean.tolist()),
        tuple(map(tuple, whitening.tolist())),
        reference,
        5.0,
        0.05,
        len(trajectories),
        len(trajectories),
    )


def answers(networks, trajectories, familiarity=None, **settings):
    """Return the answer, and the answer of each reason by the beginning of its words."""
    known = familiarity or familiarity_of(trajectories)
    reasons = gate(
        copy.deepcopy(networks), known, trajectories, GateSettings(**settings), 0.99, 0.95
    )
    return answer_of(reasons), {reason.what: reason.answer for reason in reasons}


def moved(networks, by):
    """A child whose every weight differs a little from its parent's."""
    child = copy.deepcopy(networks)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in child.policy.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return child


COST = "estimated cost outside_corridor"


def billed(trajectories, share):
    """These episodes, as if a share of the steps had cost 1, in some episodes more than others."""
    rng = np.random.default_rng(0)
    return [
        dataclasses.replace(t, costs=(rng.random(t.costs.shape) < share).astype(float))
        for t in trajectories
    ]


def test_a_child_near_the_behaviour_policy_is_tried(behaviour, logged):
    child = moved(behaviour.networks, 1e-3)
    answer, each = answers(child, billed(logged, 0.02))
    assert answer is Answer.CANARY
    assert set(each.values()) == {Answer.CANARY}
    assert list(each) == [
        "KL from the behaviour policy",
        "effective sample size",
        "episodes",
        "episodes with unfamiliar states",
        COST,
    ]


def test_finetune_and_gate_measure_one_distance(behaviour, logged):
    """A child at the edge of what fine-tuning allows is within what the gate allows.

    The monitor overrode some steps, which neither of the two counts.
    """
    child = copy.deepcopy(behaviour.networks)
    trajectories = [
        dataclasses.replace(t, overridden=t.observation[:-1, 0] > np.median(t.observation[:, 0]))
        for t in billed(logged, 0.5)
    ]
    experience = Experience.of(trajectories, child.contract)
    tuned = Finetuner(child, experience, FinetuneSettings(), 0.99, 0.95).run()
    assert tuned["steps"] > 0
    reasons = gate(child, None, trajectories, GateSettings(), 0.99, 0.95)
    found = {reason.what: reason for reason in reasons}
    divergence, share = found["KL from the behaviour policy"], found["effective sample size"]
    assert divergence.found == f"{tuned['kl']:.3f} nats"
    assert divergence.answer is Answer.CANARY
    assert share.found.startswith(f"{tuned['effective_share']:.0%} of ")


def test_a_child_that_costs_too_much_is_rejected(behaviour, logged):
    """65 steps of which half cost 1, of a limit d of 5."""
    answer, each = answers(moved(behaviour.networks, 1e-3), billed(logged, 0.5))
    assert (answer, each[COST]) == (Answer.REJECT, Answer.REJECT)


def test_costs_at_the_limit_are_not_enough(behaviour, logged):
    limit = behaviour.contract.costs[0].limit
    share = limit / behaviour.contract.episode_steps
    answer, each = answers(moved(behaviour.networks, 1e-3), billed(logged, share))
    assert (answer, each[COST]) == (Answer.NOT_ENOUGH, Answer.NOT_ENOUGH)


def test_of_a_child_far_away_the_logs_say_nothing(behaviour, logged):
    answer, each = answers(moved(behaviour.networks, 0.5), billed(logged, 0.02))
    assert answer >= Answer.NOT_ENOUGH
    assert each["KL from the behaviour policy"] is Answer.NOT_ENOUGH
    assert each["effective sample size"] is Answer.NOT_ENOUGH
    costly = answers(moved(behaviour.networks, 0.5), billed(logged, 0.5))
    assert (costly[0], costly[1][COST]) == (Answer.NOT_ENOUGH, Answer.NOT_ENOUGH)


@pytest.mark.parametrize(
    ("costs", "answer"),
    [
        ([1.0, 3.0] * 50, Answer.CANARY),
        ([4.0, 6.0] * 50, Answer.NOT_ENOUGH),
        ([9.0, 11.0] * 50, Answer.REJECT),
        ([np.nan] * 100, Answer.NOT_ENOUGH),
    ],
)
def test_of_a_child_far_away_the_identified_simulator_tells(behaviour, logged, costs, answer):
    """The limit d is 5. That the logs do not reach the child does not count then."""
    child, known = moved(behaviour.networks, 0.5), billed(logged, 0.02)
    simulated, strange = np.array(costs)[:, None], familiarity_of(known, far=30.0)
    reasons = gate(child, strange, known, GateSettings(), 0.99, 0.95, simulated)
    assert reasons[-1].what == "cost outside_corridor in the identified simulator"
    assert reasons[-1].answer is answer
    assert reasons[0].answer is Answer.NOT_ENOUGH
    assert answer_of(reasons) is answer


def test_few_episodes_and_unfamiliar_states(behaviour, logged):
    child = moved(behaviour.networks, 1e-3)
    free = billed(logged, 0.0)
    assert answers(child, free[:5])[1]["episodes"] is Answer.NOT_ENOUGH
    strange = familiarity_of(free, far=30.0)
    answer, each = answers(child, free, strange)
    assert answer is Answer.NOT_ENOUGH
    assert each["episodes with unfamiliar states"] is Answer.NOT_ENOUGH
    reasons = gate(copy.deepcopy(child), None, free, GateSettings(), 0.99, 0.95)
    assert answer_of(reasons) is Answer.NOT_ENOUGH


def test_the_estimate_moves_with_the_child(behaviour, logged):
    """Actions that cost are made less and more probable: the estimate falls and rises."""
    towards = []
    for sign in (-1.0, 1.0):
        trajectories = [
            dataclasses.replace(t, costs=(t.u[:, :1] > 0.0).astype(float)) for t in logged
        ]
        child = copy.deepcopy(behaviour.networks)
        bias = [p for p in child.policy.parameters() if p.shape == (2,)][-1]
        with torch.no_grad():
            bias[0] += 0.05 * sign
        reasons = gate(child, familiarity_of(logged), trajectories, GateSettings(), 0.99, 0.95)
        towards.append(float(reasons[-1].found.split()[0]))
    assert towards[0] < towards[1]


def test_what_is_not_a_number_is_never_tried():
    nan = np.array([np.nan])
    case = Case(GateSettings(), ("c",), np.array([5.0]), nan, CostEstimate(nan, nan), (), None)
    for check in (gates.distance, gates.costs):
        assert answer_of(list(check(case))) is Answer.NOT_ENOUGH
    zero = dataclasses.replace(case, log_ratio=np.full(3, -np.inf))
    assert answer_of(list(gates.distance(zero))) is Answer.NOT_ENOUGH
    assert answer_of(list(gates.sample_size(zero))) is Answer.NOT_ENOUGH
    endless = dataclasses.replace(case, cost=CostEstimate(np.zeros(1), np.array([np.inf])))
    assert answer_of(list(gates.costs(endless))) is Answer.NOT_ENOUGH


def test_a_child_far_from_the_logs_has_a_finite_distance_and_a_sentence(behaviour, logged):
    """ρ of such actions is below all numbers of 32 bits, so that its logarithm was -∞."""
    child = copy.deepcopy(behaviour.networks)
    with torch.no_grad():
        child.policy.log_std[:] -= 3.0
    reasons = gate(child, familiarity_of(logged), logged, GateSettings(), 0.99, 0.95)
    found = reasons[0].found
    assert 100.0 < float(found.split()[0]) < 1000.0
    assert found.endswith("nats: the child would hardly ever take the logged actions")
    assert reasons[0].answer is Answer.NOT_ENOUGH
    assert "inf" not in "".join(reason.found for reason in reasons)


def test_distance_and_effective_share_by_hand():
    log_ratio = np.log([0.5, 2.0, 1.0])
    assert divergence(log_ratio) == pytest.approx((-0.5 + 1.0) / 3)
    assert effective_share(log_ratio) == pytest.approx(3.5**2 / (3 * 5.25))
    assert divergence(np.full(4, -2000.0)) == pytest.approx(1999.0)
    assert effective_share(log_ratio - 2000.0) == pytest.approx(effective_share(log_ratio))


@pytest.mark.parametrize("change", [{"max_kl": 0.0}, {"min_share": 1.0}, {"min_episodes": 1}])
def test_bad_settings_are_refused(change):
    with pytest.raises(TrainingError, match="should be"):
        GateSettings(**change)


# The command.


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle of one iteration, with its training state."""
    out = tmp_path_factory.mktemp("trained") / "run"
    small = ["--task", "DriveCircle-v0", "--batch", "250", "--critic-steps", "1"]
    assert main(["train", *small, "--iterations", "1", "--out", str(out)]) == 0
    options = ["--checkpoint", str(out / "checkpoint.safetensors"), "--episodes", "8", "--anyway"]
    assert main(["export", *options, "--out", str(out / "policy.onnx")]) == 0
    return out / "policy.onnx"


@pytest.fixture(scope="module")
def run(exported, tmp_path_factory):
    """A log of that bundle: 12 episodes."""
    made_by = bundle.load(exported)
    budgets = {cost.name: cost.episode_cap for cost in made_by.contract.costs}
    folder = tmp_path_factory.mktemp("log") / "run"
    recorder = Recorder(
        folder, info(contract=made_by.contract, bundle_hash=made_by.hash, episode_cap=budgets)
    )
    for episode in range(12):
        record_episode(recorder, episode, 20, made_by, code="interrupted")
    recorder.close()
    return folder


def test_the_command(exported, run, tmp_path, capsys):
    """The log's bundle itself as child: nothing of it has changed, and 20 steps cost 20."""
    out = tmp_path / "answer.json"
    words = ["gate", str(exported), "--log", str(run), "--json-out", str(out)]
    assert main([*words, "--policy", str(exported)]) == 1
    said = capsys.readouterr().out
    told = json.loads(out.read_text())
    assert f"{exported}: {told['answer']}" in said
    found = {reason["what"]: reason for reason in told["reasons"]}
    assert found["KL from the behaviour policy"]["found"] == "0.000 nats"
    assert found[COST]["answer"] == "reject"
    assert told["answer"] == "reject"
    assert told["logs"][0]["run"] == "run"
    assert main(words) == 1  # without the bundle that ran: believed, and the same answer
    assert json.loads(out.read_text())["answer"] == "reject"


def test_the_command_that_follows_is_told(exported, run, monkeypatch, capsys):
    following = f"next: on the robot, holdfast promote {exported} --config ROBOT.yaml --canary\n"
    words = ["gate", str(exported), "--log", str(run)]
    assert main(words) == 1
    assert "next:" not in capsys.readouterr().out
    monkeypatch.setattr("holdfast.policy.improve.gate.answer_of", lambda _: Answer.NOT_ENOUGH)
    assert main(words) == 1
    assert "next: record more with holdfast deploy --explore, or " in capsys.readouterr().out
    monkeypatch.setattr("holdfast.policy.improve.gate.answer_of", lambda _: Answer.CANARY)
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(following)


def test_the_command_with_a_profile(exported, run, tmp_path, capsys):
    """A child of one iteration spins, or stands; the answer is that of its simulated cost."""
    profile, out = tmp_path / "profile.yaml", tmp_path / "answer.json"
    profile.write_text("mass: {mean: 1.2, spread: 0.05}\n")
    words = ["gate", str(exported), "--log", str(run), "--json-out", str(out)]
    main([*words, "--profile", str(profile)])
    shown = capsys.readouterr().out
    assert "An answer in parentheses does not count" in shown
    assert "(not enough" in shown or "(try as canary)" in shown
    main(words)
    assert "parentheses" not in capsys.readouterr().out
    main([*words, "--profile", str(profile)])
    capsys.readouterr()
    *_, last = json.loads(out.read_text())["reasons"]
    assert (last["what"], last["about"]) == (
        "cost outside_corridor in the identified simulator",
        "simulator",
    )
    for text, sentence in (
        ("mass: {wheel_of_nobody: 1.2}\n", "there is no body 'wheel_of_nobody'"),
        ("mass: [0.5, 2]\n", "mass: all should be one value, received [0.5, 2]"),
        ("{}\n", "should hold a parameter, as `holdfast identify` writes them"),
    ):
        profile.write_text(text)
        assert main([*words, "--profile", str(profile)]) == 1
        said = capsys.readouterr().err
        assert sentence in said
        assert said.startswith(f"holdfast: {profile}: ")


def test_the_identified_simulator_keeps_what_a_silent_profile_does_not_tell(
    exported, run, tmp_path, monkeypatch
):
    """A lidar's noise, for example, is in no profile."""
    asked, prior = [], parameters(noise={"heading": 0.02})

    def opened(*of):
        held, networks, more, trained = finetune.opened(*of)
        return held, networks, more, dataclasses.replace(trained, randomise=prior)

    def evaluated(networks, settings, *more):
        asked.append(settings.randomise)
        return evaluate(networks, settings, *more)

    monkeypatch.setattr(gates, "opened", opened)
    monkeypatch.setattr(gates, "evaluate", evaluated)
    (tmp_path / "profile.yaml").write_text("mass: 1.2\n")
    main(["gate", str(exported), "--log", str(run), "--profile", str(tmp_path / "profile.yaml")])
    assert asked == [parameters(mass=1.2, noise={"heading": 0.02})]


def test_requests_that_cannot_be(exported, run, tmp_path, capsys):
    other, alone = write_bundle(tmp_path / "other.onnx", gain=0.5), tmp_path / "alone.onnx"
    shutil.copy(exported, alone)
    for words, sentence in (
        (
            [str(exported), "--log", str(run), "--policy", str(other)],
            f"{other}: made none of the logs, which are of {bundle.load(exported).hash[:12]}; name",
        ),
        ([str(alone), "--log", str(run)], "alone.checkpoint.safetensors: there is no such train"),
        ([str(tmp_path / "no.onnx"), "--log", str(run)], "no.onnx: cannot be read"),
        ([str(exported), "--log", str(run), str(run)], "are the same run; give it once"),
        ([str(exported), "--log", str(tmp_path)], "should hold one log"),
        (
            ["--log", str(exported), str(run)],
            f"CHILD should be the child's bundle, a file; {run} is",
        ),
    ):
        assert main(["gate", *words]) == 1
        assert sentence in capsys.readouterr().err
