"""`holdfast train`: what it writes, resumes, refuses and says at the end; and the probe."""

import dataclasses
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.policy import probe, train
from holdfast.policy.algorithms.cpo import CPOSettings
from holdfast.policy.algorithms.trpo import TRPOSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.models import checkpoint
from holdfast.policy.optimise.trust_region import StepSettings
from holdfast.policy.ship.evaluate import Evaluation
from holdfast.policy.train import CHECKPOINT, PROGRESS, command, outcome
from holdfast.sim.parameters.catalogue import load
from holdfast.sim.registry import resolve
from tests.helpers.robots import runs
from tests.helpers.robots.parameters import parameters

SMALL = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, iterations=2, batch=1040, critic_steps=5
)
OPTIONS = ["--task", "PointCircle-v0", "--batch", "650", "--critic-steps", "2"]


def lines(folder):
    return [json.loads(line) for line in (folder / PROGRESS).read_text().splitlines()]


def test_command_trains_resumes_and_never_overwrites(tmp_path):
    command(SMALL, out=tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError, match="exists; give --resume"):
        command(SMALL, out=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    with pytest.raises(TrainingError, match="trained with gamma"):
        command(dataclasses.replace(SMALL, gamma=0.5), out=tmp_path, resume=True)
    # A run that died after its last checkpoint has run iterations that will be run again.
    with (tmp_path / PROGRESS).open("a") as file:
        file.write(json.dumps({"iteration": 3}) + "\n")
    command(dataclasses.replace(SMALL, iterations=4), out=tmp_path, resume=True)
    assert [line["iteration"] for line in lines(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("algorithm", "notes"), [("cpo", 1), ("trpo", 0)])
def test_a_limit_that_limits_nothing_is_told(tmp_path, capsys, algorithm, notes):
    line = ["train", "--out", str(tmp_path), *OPTIONS, "--iterations", "1", "--limit", "65"]
    assert main([*line, "--algorithm", algorithm]) == 0
    wanted = "note: cost 'outside_corridor': limit 65 should be below 65, the most that an episode"
    assert capsys.readouterr().out.count(wanted) == notes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_loses_no_iteration(tmp_path, number):
    """A real signal to a real run, far from the next regular checkpoint."""
    line = [sys.executable, "-m", "holdfast", "train", "--out", str(tmp_path), *OPTIONS]
    run = subprocess.Popen(
        [*line, "--iterations", "5000", "--checkpoint-every", "5000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    progress = tmp_path / PROGRESS
    runs.until(lambda: progress.exists() and progress.read_text().count("\n") > 2)
    run.send_signal(number)
    out, err = run.communicate(timeout=runs.LIMIT_S)
    assert run.returncode == 130
    assert err.splitlines()[-1] == "holdfast: interrupted"
    done = lines(tmp_path)[-1]["iteration"]
    assert f"iteration {done}; --resume goes on from it" in out
    assert Learner.load(tmp_path / CHECKPOINT).iteration == done
    assert main(["train", "--out", str(tmp_path), "--resume", "--iterations", str(done + 1)]) == 0
    assert [line["iteration"] for line in lines(tmp_path)] == list(range(1, done + 2))
    assert lines(tmp_path)[-1]["iterations"] == done + 1  # not 5000: who watches sees its end


def test_a_run_starts_from_the_networks_of_another_limit(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "--out", str(first), *OPTIONS, "--iterations", "2"]) == 0
    parent = str(first / CHECKPOINT)
    line = ["train", "--out", str(second), "--start-from", parent, "--limit", "7"]
    assert main([*line, *OPTIONS, "--iterations", "1"]) == 0
    held, _ = checkpoint.load_networks(first / CHECKPOINT)
    child = Learner.load(second / CHECKPOINT)
    assert child.contract.costs[0].limit == 7.0
    assert child.started_from == {"iteration": 2, "contract": held.contract.hash}
    assert lines(second)[0]["started_from"] == child.started_from
    count = held.normaliser.count.item()
    assert child.normaliser.count.item() == count + 650  # the batch is added
    begun = train._start(SMALL, tmp_path / "third", False, (), first / CHECKPOINT)
    begun.close()
    for name, module in begun.networks.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, held.modules[name].state_dict()[key]), (name, key)


@pytest.mark.parametrize("name", ["step", "exp_avg_sq"])
def test_impossible_moments_are_not_resumed(tmp_path, capsys, name):
    assert main(["train", "--out", str(tmp_path), *OPTIONS, "--iterations", "1"]) == 0
    tensors, data = checkpoint.load(tmp_path / CHECKPOINT)
    tensors[f"critic_adam.0.{name}"].view(-1)[0] = -1.0
    checkpoint.save(tmp_path / CHECKPOINT, tensors, data)
    assert main(["train", "--out", str(tmp_path), "--resume", "--iterations", "2"]) == 1
    assert f"critic_adam.0.{name} should be at least 0" in capsys.readouterr().err


def test_a_count_below_nothing_is_refused(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path), *OPTIONS, "--iterations", "1"]) == 0
    tensors, data = checkpoint.load(tmp_path / CHECKPOINT)
    checkpoint.save(tmp_path / CHECKPOINT, tensors, {**data, "iteration": -5})
    assert main(["train", "--out", str(tmp_path), "--resume", "--iterations", "2"]) == 1
    assert "iteration should be at least 0, received -5" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_finite_is_not_written(tmp_path):
    """Training that diverged leaves the checkpoint before it."""
    learner = Learner(SMALL)
    learner.save(tmp_path / CHECKPOINT)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with torch.no_grad():
        learner.networks.critic.biases[0][0] = torch.inf
    with pytest.raises(TrainingError, match=r"critic.biases.0 is not finite, so it is not written"):
        learner.save(tmp_path / CHECKPOINT)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    learner.close()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("policy.body.0.weight", float("nan"), "body.0.weight should be finite"),
        ("policy.body.0.weight", 3e38, "body.0.weight should be finite, and at most 1e+12"),
        ("policy.log_std", -1e4, "policy: log_std should be at most 20 in size"),
        ("normaliser.std", 1e-300, "normaliser: std should be at least 0.001"),
        ("normaliser.count", -5.0, "normaliser: count should be at least 0"),
        ("critic.std", 0.0, "critic: std should be at least 0.001"),
    ],
)
def test_impossible_weights_begin_nothing(tmp_path, capsys, name, value, sentence):
    first = tmp_path / "first"
    assert main(["train", "--out", str(first), *OPTIONS, "--iterations", "1"]) == 0
    tensors, data = checkpoint.load(first / CHECKPOINT)
    tensors[name].view(-1)[0] = value
    (first / CHECKPOINT).write_bytes(checkpoint.content(tensors, data))
    capsys.readouterr()
    for line in (
        ["--out", str(tmp_path / "second"), "--start-from", str(first / CHECKPOINT), *OPTIONS],
        ["--out", str(first), "--resume", "--iterations", "2"],
    ):
        assert main(["train", *line]) == 1
        said = capsys.readouterr().err
        assert sentence in said
        assert str(first / CHECKPOINT) in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--task", "DriveCircle-v0"], "is of holdfast/PointCircle-v0, not of holdfast/DriveCirc"),
        ([*OPTIONS, "--hidden", "8"], "has other hidden layers than [8]; give --hidden 64 64"),
        ([*OPTIONS, "--resume"], "start-from is only where training begins"),
        ([*OPTIONS, "--probe"], "a probe begins with random weights"),
        ([*OPTIONS, "--demonstrations", "log"], "a policy begins once"),
        ([*OPTIONS, "--algorithm", "off-policy"], "leave --start-from out"),
    ],
)
def test_what_cannot_start_from_another_run_is_refused(tmp_path, capsys, options, sentence):
    command(dataclasses.replace(SMALL, iterations=1), out=tmp_path)
    out = tmp_path if "--resume" in options else tmp_path / "other"
    line = ["train", "--out", str(out), "--start-from", str(tmp_path / CHECKPOINT)]
    assert main([*line, *options]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_file_says_what_is_randomised_and_the_checkpoint_what_was_in_it(tmp_path):
    file, out = tmp_path / "robots.yaml", tmp_path / "run"
    file.write_text("mass: [0.5, 2.0]\ndelay: [0, 2]\nnoise: {position: 0.1}\n")
    run = ["train", *OPTIONS, "--out", str(out)]
    assert main([*run, "--iterations", "1", "--randomise", str(file)]) == 0
    file.unlink()
    assert Learner.load(out / CHECKPOINT).settings.randomise == parameters(
        mass=[0.5, 2.0], delay=[0, 2], noise={"position": 0.1}
    )
    file.write_text("mass: [0.5, 2.1]\n")
    held = Learner.load(out / CHECKPOINT).settings
    other = dataclasses.replace(held, randomise=load(file))
    with pytest.raises(TrainingError, match=r"trained with randomise = .*2\.0.*, not .*2\.1"):
        command(other, out=out, resume=True)


def test_what_cannot_be_randomised_is_refused(tmp_path, capsys):
    file = tmp_path / "robots.yaml"
    run = ["train", "--task", "PointCircle-v0", "--randomise", str(file), "--out", str(tmp_path)]
    for text, sentence in (
        ("mass: heavy\n", f"{file}: line 1: mass should be a number, received 'heavy'"),
        ("friction: [1, 2]\n", "randomisation: friction: the robot touches nothing; leave it"),
    ):
        file.write_text(text)
        assert main(run) == 1
        assert capsys.readouterr().err.startswith(f"holdfast: {sentence}")
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path, monkeypatch, capsys):
    """TensorBoard cannot open it."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--task", "PointCircle-v0", "--out", "\udcff"]) == 1
    said = "holdfast: out: should hold whole characters, received \\udcff\n"
    assert capsys.readouterr().err == said
    assert not any(tmp_path.iterdir())


def test_what_is_written_of_an_iteration(tmp_path):
    command(SMALL, out=tmp_path)
    record = lines(tmp_path)[-1]
    assert set(record["costs"]) == {"outside_corridor"}
    for key in ("return", "kl", "lam", "case", "accepted", "steps_per_s", "explained_variance"):
        assert key in record
    board = EventAccumulator(str(tmp_path)).Reload()
    tags = set(board.Tags()["scalars"])
    assert {
        *("return", "kl", "lam", "steps_per_s", "accepted", "shortfall/outside_corridor"),
        *("costs/outside_corridor", "nu/outside_corridor", "explained_variance/reward"),
    } <= tags
    assert [event.step for event in board.Scalars("return")] == [1, 2]
    assert board.Scalars("costs/outside_corridor")[-1].value == pytest.approx(
        record["costs"]["outside_corridor"]
    )


def test_a_resumed_run_knows_its_own_settings(tmp_path, capsys):
    """On the command line only what is to change is given again."""
    run = ["train", "--out", str(tmp_path)]
    assert main([*run, *OPTIONS, "--iterations", "1", "--slack", "0.3"]) == 0
    assert main([*run, "--resume", "--iterations", "2"]) == 0
    assert len(lines(tmp_path)) == 2
    assert main([*run, "--resume"]) == 0
    assert "already at iteration 2" in capsys.readouterr().out
    assert main([*run, "--resume", "--slack", "0.2"]) == 1
    assert "was trained with slack = 0.3, not 0.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--task", "Nowhere-v0"], "task should be one of"),
        (["--limit", "-1"], "limit should be at least 0"),
        (["--limit", "1", "2"], "limit should have a value for each cost"),
        (["--batch", "10"], "batch should be at least an episode"),
        (["--algorithm", "ppo-penalty"], "penalty should have a price for each cost"),
        (["--resume"], "there is no such training; leave --resume out to begin one"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, capsys, options, sentence):
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--task", "PointCircle-v0", *options]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert sentence in err
    assert not out.exists()


@pytest.mark.parametrize("options", [["--algorithm", "sac"], ["--preset", "mine"], ["--colour"]])
def test_wrong_usage_is_status_2(options):
    with pytest.raises(SystemExit) as ended:
        main(["train", *options])
    assert ended.value.code == 2


def test_the_preset_s_values_are_the_defaults_that_help_shows(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--preset", "paper", "--task", "PointCircle-v0", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "(default: 50000)" in out
    assert "(default: 0.995)" in out


def test_a_preset_is_changed_by_what_is_given_beside_it(tmp_path):
    paper = ["--preset", "paper", *OPTIONS, "--iterations", "1", "--gamma", "0.9"]
    assert main(["train", "--out", str(tmp_path), *paper]) == 0
    _, data = checkpoint.load(tmp_path / CHECKPOINT)
    held = data["settings"]
    assert (held["preset"], held["gamma"], held["batch"]) == ("paper", 0.9, 650)
    assert held["own"]["step"]["delta"] == 0.01
    assert held["hidden"] == [64, 32]


def records(*costs):
    return [{"return": 1.0, "costs": {"outside_corridor": cost}} for cost in costs]


@pytest.mark.parametrize(
    ("costs", "algorithm", "words"),
    [
        ([5.4] * 60, "cpo", "5.40 per episode, limit d = 5"),
        ([50.0] * 40 + [5.0] * 20, "cpo", "outside_corridor 5.00"),
        ([6.0] * 60, "cpo", "not met"),
        ([6.0] * 60, "pdo", "not met"),
        ([6.0] * 60, "trpo", "which trpo does not look at"),
    ],
)
def test_the_end_says_whether_the_limit_is_met(costs, algorithm, words):
    """The mean of the last 20 iterations, and a tenth of the limit on top."""
    told = list(outcome(records(*costs), contract_of(SMALL), algorithm))
    assert told[0] == "last 20 iterations: return 1.0 per episode"
    assert words in told[1]
    assert ("not met" in told[1]) == (words == "not met")


def test_of_a_short_training_the_last_third_counts():
    """A training of five iterations begins with a policy that is nothing like its last one."""
    told = list(outcome(records(90.0, 0.0, 0.0, 0.0, 50.0), contract_of(SMALL), "cpo"))
    assert told[0].startswith("last iteration: ")
    assert "outside_corridor 50.00" in told[1]


def test_the_end_speaks_of_every_cost(two_costs):
    """One limit is met and the other is not."""
    contract = contract_of(TrainSettings(task=two_costs))
    told = list(outcome([{"return": 0.0, "costs": {"near": 1.0, "far": 30.0}}], contract, "cpo"))
    assert told[0].startswith("last iteration: ")
    assert "near" in told[1]
    assert "not met" not in told[1]
    assert "not met" in told[2]


def test_a_limit_out_of_reach_is_said_to_be(tmp_path, capsys):
    """Nothing costs less than 0 here, and two updates do not get there."""
    assert (
        main(["train", "--out", str(tmp_path), *OPTIONS, "--iterations", "2", "--limit", "0"]) == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "limit d = 0: not met" in out


def test_probe_measures_and_draws_from_nothing_to_unconstrained(tmp_path, capsys):
    """Doing nothing on the spot costs nothing; random actions drift out of the corridor."""
    options = ["--task", "PointCircle-v0", "--batch", "6500", "--critic-steps", "40"]
    assert main(["train", "--probe", "--out", str(tmp_path), *options, "--iterations", "8"]) == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / probe.PROBE).read_text())
    nothing, at_random, *between, free = report["policies"].values()
    assert nothing["costs"]["outside_corridor"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert nothing["return"]["mean"] == pytest.approx(0.0, abs=1e-9)
    cost = free["costs"]["outside_corridor"]
    assert cost["low"] < cost["mean"] < cost["high"]
    assert cost["mean"] > at_random["costs"]["outside_corridor"]["mean"] > 0.0
    assert free["return"]["mean"] > at_random["return"]["mean"] + 20.0
    assert "doing nothing" in shown
    assert len(between) == len(probe.SHARES)
    tight, *_, loose = between
    assert tight["costs"]["outside_corridor"]["mean"] < cost["low"]
    assert nothing["return"]["mean"] < tight["return"]["mean"] < free["return"]["mean"]
    assert tight["costs"]["outside_corridor"]["mean"] < loose["costs"]["outside_corridor"]["mean"]
    drawn = (tmp_path / probe.PICTURE).read_text()
    assert drawn.startswith("<svg")
    limits = [name for name in report["policies"] if name.startswith("limit d = ")]
    shares = [float(name.rpartition(" ")[2]) / cost["mean"] for name in limits]
    assert shares == pytest.approx(probe.SHARES, rel=0.06)
    for name in (*limits, "now d = 5", "return per episode"):
        assert f"<!-- {name} -->" in drawn
    assert not (tmp_path / CHECKPOINT).exists()
    assert main(["train", "--probe", "--out", str(tmp_path), *options]) == 1
    assert "exists" in capsys.readouterr().err


def test_without_any_cost_there_are_no_limits_in_between():
    def free(costs):
        return Evaluation(0, ("near", "far"), np.ones(2), np.array(costs), (), ())

    assert probe.limits_between(free([[0.0, 0.0], [0.0, 0.0]])) == []
    assert probe.limits_between(free([[0.0, 40.0], [0.0, 24.8]]))[0] == (0.0, 3.2)


def test_probe_trains_by_an_algorithm_that_meets_limits():
    for algorithm, expected in (("trpo", "cpo"), ("cpo", "cpo"), ("pcpo", "pcpo")):
        settings = probe.constrained(TrainSettings(algorithm=algorithm), (3.0,))
        assert (settings.algorithm, settings.limit) == (expected, (3.0,))


def test_probe_forgets_what_only_another_algorithm_reads():
    settings = dataclasses.replace(SMALL, own=CPOSettings(StepSettings(delta=0.05), slack=0.5))
    free = probe.unconstrained(settings)
    assert (free.algorithm, free.own) == ("trpo", TRPOSettings(StepSettings(delta=0.05)))


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
from holdfast.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_ray_it_says_what_brings_it(tmp_path):
    out = tmp_path / "run"
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, "train", "--ray", "local", "--out", str(out),
         "--task", "PointCircle-v0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == (
        "holdfast: train needs the Python package 'ray', which is not installed: "
        "pip install 'holdfast-robot[ray]', or '.[ray]' from a checkout\n"
    )
    assert not out.exists()
