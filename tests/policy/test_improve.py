"""Training in the identified simulator: its start, the policy that is kept, its provenance."""

import math
from dataclasses import replace

import pytest
import torch

from holdfast import cli
from holdfast.bundle import reader as bundle
from holdfast.errors import ConfigError, FileError, TrainingError
from holdfast.policy.improve.improve import ImproveSettings, improve
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.ship import verify
from holdfast.policy.ship.export import checkpoint_of, export
from holdfast.sim.registry import resolve
from tests.helpers.robots.parameters import parameters

SMALL = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, batch=1040, critic_steps=5, initial_std=0.05
)
QUICK = ImproveSettings(iterations=1, anew=0, rounds=0, episodes=10)
PROFILE = parameters(mass={"mean": 1.3, "spread": 0.05}, gain=0.9, delay=1)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    learner = Learner(SMALL)
    learner.iterate()
    learner.save(folder / "state.safetensors")
    learner.close()
    export(folder / "state.safetensors", folder / "policy.onnx", episodes=20)
    return folder / "policy.onnx"


def test_the_child_goes_on_from_its_parent_in_the_identified_simulator(parent, tmp_path):
    said = []
    out = tmp_path / "child.onnx"
    improve(parent, PROFILE, (), out, QUICK, anyway=True, say=said.append)
    child = bundle.load(out)
    assert child.contract == bundle.load(parent).contract
    assert child.provenance["parent"] == bundle.load(parent).hash
    assert child.provenance["profile"] == PROFILE.to_plain()
    assert child.provenance["improve"]["start"] == "parent"
    assert child.provenance["started_from"]["iteration"] == 1
    networks, data = checkpoint.load_networks(checkpoint_of(out))
    assert settings_of(out, data).randomise == PROFILE.wider(QUICK.wider)
    assert networks.policy.log_std.exp().min() > 0.2  # it explores again
    assert said[0].startswith(
        "parent in the identified simulator, where no monitor stops it: return "
    )
    assert not list(tmp_path.glob("*.training.*"))
    assert verify.command(out) == 0  # also that a second export is the same


def test_of_what_the_profile_is_silent_on_the_parents_training_stays(tmp_path):
    prior = parameters(mass=[0.8, 1.2], noise={"position": 0.02})
    learner = Learner(replace(SMALL, randomise=prior))
    learner.iterate()
    learner.save(tmp_path / "state.safetensors")
    learner.close()
    export(tmp_path / "state.safetensors", tmp_path / "policy.onnx", episodes=20)
    out = tmp_path / "child.onnx"
    improve(tmp_path / "policy.onnx", PROFILE, (), out, QUICK, anyway=True)
    _, data = checkpoint.load_networks(checkpoint_of(out))
    told = settings_of(out, data).randomise.to_plain()
    assert told.pop("noise") == {"position": 0.02}
    assert told == PROFILE.wider(QUICK.wider).to_plain()


def test_the_better_of_both_starts_is_kept(parent, tmp_path):
    """No training reaches so large a share of the parent's return, so that both are tried."""
    settings = ImproveSettings(
        iterations=1, anew=2, rounds=0, episodes=10, bound=0.0, least_return=1e6
    )
    said = []
    made = improve(
        parent, PROFILE, (), tmp_path / "child.onnx", settings, anyway=True, say=said.append
    )
    tried = made["improve"]["tried"]
    if made["improve"]["parent_measured"]["return"]["mean"] > 0.0:
        assert set(tried) == {"parent", "random weights"}
    proven = settings.proven * SMALL.task.contract.costs[0].limit
    met = {
        name: each["return"]["mean"]
        for name, each in tried.items()
        if each["costs"]["outside_corridor"]["mean"] <= proven
    }
    if met:
        assert made["improve"]["start"] == max(met, key=met.__getitem__)
    assert len(said) == 1 + len(tried)
    assert math.isfinite(made["measured"]["return"]["mean"])


@pytest.mark.parametrize("bound", [0.0, 1e6])
def test_training_goes_on_until_held_out_robots_keep_the_limit(parent, tmp_path, bound):
    """By a third of the iterations each time; an upper bound of a million errors is never kept."""
    settings = ImproveSettings(iterations=3, anew=0, episodes=10, bound=bound, rounds=2)
    said = []
    made = improve(
        parent, PROFILE, (), tmp_path / "child.onnx", settings, anyway=True, say=said.append
    )
    more = len(said) - 2  # beside what is said of the parent, and of the first training
    assert made["iteration"] == 3 + more
    (cost,) = made["improve"]["tried"]["parent"]["costs"].values()
    kept = cost["mean"] <= settings.proven * SMALL.task.contract.costs[0].limit
    if bound:
        assert more == 2
    else:
        assert kept or more == 2


def test_equal_seeds_give_equal_children(parent, tmp_path):
    for name in ("one", "two"):
        improve(parent, PROFILE, (), tmp_path / name / "policy.onnx", QUICK, anyway=True)
    one, two = (
        checkpoint.load(checkpoint_of(tmp_path / n / "policy.onnx")) for n in ("one", "two")
    )
    assert one[1] == two[1]
    assert one[0].keys() == two[0].keys()
    assert all(torch.equal(tensor, two[0][name]) for name, tensor in one[0].items())


def test_a_profile_of_another_model_is_refused(parent, tmp_path):
    out = tmp_path / "child.onnx"
    profile = parameters(size={"left_tyre": 1.1})
    with pytest.raises(ConfigError, match=r"^p\.yaml: .*there is no geom 'left_tyre'"):
        improve(parent, profile, (), out, QUICK, where="p.yaml")
    assert not out.exists()


def test_a_full_disk_does_not_cost_the_training(parent, tmp_path, monkeypatch):
    def full(*_, **__):
        raise FileError("child.onnx: cannot be written (No space left on device)")

    monkeypatch.setattr("holdfast.policy.improve.improve.export", full)
    state = tmp_path / "child.training.safetensors"
    with pytest.raises(FileError, match=f"what was trained is kept in {state}$"):
        improve(parent, PROFILE, (), tmp_path / "child.onnx", QUICK)
    assert Learner.load(state).iteration == QUICK.iterations


def test_where_nothing_can_be_written_nothing_is_trained(parent, tmp_path, capsys):
    profile, away = tmp_path / "profile.yaml", tmp_path / "file"
    profile.write_text("gain: 0.9\n")
    away.write_text("")
    out = away / "child.onnx"
    line = ["improve", "--policy", str(parent), "--profile", str(profile), "--out", str(out)]
    assert cli.main(line) == 1
    said = capsys.readouterr()
    assert "cannot be written" in said.err
    assert said.out == ""


def test_a_child_replaces_nothing(parent, tmp_path, capsys):
    with pytest.raises(TrainingError, match="should not overwrite its parent"):
        improve(parent, PROFILE, (), parent, QUICK)
    profile = tmp_path / "profile.yaml"
    profile.write_text("gain: 0.9\n")
    line = ["improve", "--policy", str(parent), "--profile", str(profile), "--out", str(parent)]
    assert cli.main(line) == 1
    assert "a bundle is never replaced by its child" in capsys.readouterr().err


def test_a_profile_that_is_not_there_is_refused(parent, tmp_path, capsys):
    line = [
        "improve",
        "--policy",
        parent,
        "--profile",
        tmp_path / "no.yaml",
        "--out",
        tmp_path / "o",
    ]
    assert cli.main(list(map(str, line))) == 1
    assert "no.yaml" in capsys.readouterr().err
