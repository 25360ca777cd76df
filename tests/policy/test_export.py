"""Bundles from checkpoints: same bytes twice, parity, and what verify refuses."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest

from holdfast.errors import BundleError, TrainingError
from holdfast.policy import bundle, checkpoint, verify
from holdfast.policy.evaluate import interval
from holdfast.policy.export import checkpoint_of, export
from holdfast.policy.learner import Learner, TrainSettings

SMALL = TrainSettings(task="PointCircle-v0", seed=3, copies=16, critic_steps=5)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A bundle of a policy after two updates, with its training state beside it."""
    folder = tmp_path_factory.mktemp("shipped")
    learner = Learner(SMALL)
    for _ in range(2):
        learner.iterate()
    learner.save(folder / "state.safetensors")
    export(folder / "state.safetensors", folder / "policy.onnx", episodes=20)
    return folder / "policy.onnx"


@pytest.fixture
def copied(shipped, tmp_path):
    """The same in a folder that may be tampered with."""
    for path in (shipped, checkpoint_of(shipped)):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / shipped.name


def test_verify_accepts_what_was_exported(shipped, capsys):
    assert verify.command(shipped, robot="point", task="holdfast/PointCircle-v0") == 0
    said = capsys.readouterr().out
    assert "byte-identical" in said
    assert "10000 observations" in said


def test_bundle_says_what_torch_says(shipped):
    held = bundle.load(shipped)
    networks, _ = checkpoint.load_networks(checkpoint_of(shipped))
    assert held.contract == networks.contract
    observation = held.golden.observation[0]
    action, log_std = held.act(observation)
    np.testing.assert_allclose(action, held.golden.action[0], atol=1e-5)
    np.testing.assert_allclose(log_std, networks.policy.log_std.detach(), atol=1e-6)


def test_one_file_that_names_no_machine(shipped):
    model = onnx.load(shipped)
    onnx.checker.check_model(model)
    assert not any(t.external_data for t in model.graph.initializer)
    assert str(shipped.parent).encode() not in shipped.read_bytes()
    assert b".py" not in shipped.read_bytes()  # no stack traces of the exporter


def test_provenance(shipped):
    provenance = bundle.load(shipped).provenance
    assert provenance["seed"] == SMALL.seed
    assert provenance["iteration"] == 2
    measured = provenance["measured"]
    assert measured["episodes"] == 20
    assert measured["cost"]["low"] <= measured["cost"]["mean"] <= measured["cost"]["high"]


def test_every_flipped_byte_is_noticed(copied):
    whole = copied.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=60).tolist():
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        copied.write_bytes(data)
        with pytest.raises(BundleError):
            bundle.load(copied)


def test_other_training_state_is_refused(copied, capsys):
    learner = Learner(dataclasses.replace(SMALL, seed=9))
    learner.save(checkpoint_of(copied))
    assert verify.command(copied) == 1
    assert "is not the training state that the bundle was exported from" in capsys.readouterr().out


def test_weights_that_differ_from_the_state_are_refused(copied):
    """One weight of the graph changed and everything sealed anew: parity must see it."""
    model = onnx.load(copied)
    matrices = [t for t in model.graph.initializer if len(t.dims) == 2]  # of the policy
    weights = max(matrices, key=lambda t: np.prod(t.dims))
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] += 0.5
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    entries = {p.key: p for p in model.metadata_props}
    entries["holdfast_digest"].value = bundle.PLACEHOLDER
    held = bundle.load(copied)
    copied.write_bytes(bundle.seal(model.SerializeToString(deterministic=True)))
    with pytest.raises(BundleError, match="golden pairs"):
        bundle.load(copied)
    changed = dataclasses.replace(held, _session=bundle._session(copied.read_bytes()))
    with pytest.raises(BundleError, match="differs from torch"):
        verify.check_parity(changed)
    with pytest.raises(BundleError, match="second export differs"):
        verify.check_reproducible(changed)


def test_other_robot_or_task_is_refused(shipped):
    with pytest.raises(BundleError, match="trained for robot 'point', not 'drive'"):
        verify.command(shipped, robot="drive")
    with pytest.raises(BundleError, match="trained for task"):
        verify.command(shipped, task="holdfast/DriveCircle-v0")


def test_export_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no such file"):
        export(tmp_path / "none.safetensors", tmp_path / "policy.onnx", episodes=2)
    assert not list(tmp_path.iterdir())


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        found = interval(rng.exponential(10.0, 80), resamples=400)
        covered += found["low"] <= 10.0 <= found["high"]
    assert 0.89 <= covered / 300 <= 0.98
