"""Bundles from checkpoints: same bytes twice, parity, and what verify refuses."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess

import numpy as np
import onnx
import pytest
import torch

from holdfast.bundle import reader as bundle
from holdfast.bundle.graph import OPERATORS
from holdfast.cli import main
from holdfast.errors import BundleError, ConfigError, HoldfastError, TrainingError
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of, settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.ship import verify
from holdfast.policy.ship.evaluate import evaluate, predict_costs, prediction_errors
from holdfast.policy.ship.export import checkpoint_of, export
from holdfast.safety_monitor.familiarity import Drift
from holdfast.safety_monitor.prediction import Prediction
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract
from tests.helpers.robots.parameters import parameters

SMALL = TrainSettings(task=resolve("PointCircle-v0"), seed=3, batch=1040, critic_steps=5)


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
    assert b".py" not in shipped.read_bytes()


def test_a_bundle_may_use_what_export_writes_and_nothing_else(shipped):
    model = onnx.load(shipped)
    adopted = {"Erf", "Exp", "Log", "Relu", "Sigmoid", "Slice", "Sqrt"}  # see test_adopt_operators
    earlier = {"Gather", "Gemm", "Transpose"}  # which bundles of earlier versions have
    assert {node.op_type for node in model.graph.node} == set(OPERATORS) - adopted - earlier


def test_a_row_takes_a_small_part_of_its_period(shipped):
    held = bundle.load(shipped)
    assert 0.0 < held.row_s < 0.05 * held.contract.period_s


def test_provenance(shipped):
    provenance = bundle.load(shipped).provenance
    assert provenance["seed"] == SMALL.seed
    assert provenance["iteration"] == 2
    measured = provenance["measured"]
    assert measured["episodes"] == 20
    cost = measured["costs"]["outside_corridor"]
    assert cost["low"] <= cost["mean"] <= cost["high"]


def test_the_bundle_knows_what_the_simulation_shows(shipped):
    """Episodes of other seeds than it was fitted on are familiar; what never happens is not."""
    held = bundle.load(shipped)
    familiarity = held.familiarity
    familiarity.require_size(held.contract.observation_size)
    assert (familiarity.episodes, familiarity.logged) == (10, 0)
    assert familiarity.false_alarm_rate == 0.1
    networks, _ = checkpoint.load_networks(checkpoint_of(shipped))
    evaluation = evaluate(networks, SMALL, 40, seed=77)

    def alarms(change):
        count = 0
        for episode in evaluation.observations:
            drift, strange = Drift(familiarity, ()), False
            for observation in episode:
                drift.add(change(observation))
                strange = strange or drift.total > familiarity.threshold
            count += strange
        return count

    # 4 are to be expected of 40, but with 10 episodes to calibrate on the rate itself is
    # Beta(1, 10): that it is above a half has a probability of 1e-3.
    assert alarms(lambda x: x) <= 20
    assert alarms(lambda x: x + 10.0 * evaluation.observations[0].std(axis=0)) == 40


def known(shipped, tmp_path, episodes):
    """Export again, with a robot's episodes in the training state; return the new bundle."""
    tensors, data = checkpoint.load(checkpoint_of(shipped))
    rng = np.random.default_rng(0)
    logged = [rng.normal(50.0, 1.0, (65 - i, 5)).astype(np.float32) for i in range(episodes)]
    tensors |= checkpoint.known_tensors(logged)
    checkpoint.save(tmp_path / "state.safetensors", tensors, data)
    export(tmp_path / "state.safetensors", tmp_path / "child.onnx", episodes=20)
    read = checkpoint.known_episodes(checkpoint.load(tmp_path / "state.safetensors")[0], 5)
    assert all(np.array_equal(a, b) for a, b in zip(read, logged, strict=True))
    return tmp_path / "child.onnx", logged


def test_what_a_robot_has_seen_is_familiar_too(shipped, tmp_path):
    path, logged = known(shipped, tmp_path, 24)
    familiarity = bundle.load(path).familiarity
    assert (familiarity.episodes, familiarity.logged) == (10, 12)
    assert familiarity.false_alarm_rate == 0.1  # ten episodes show no lower one
    alone = bundle.load(shipped).familiarity
    for one, strange in ((familiarity, False), (alone, True)):
        drift = Drift(one, ())
        for observation in logged[0]:
            drift.add(observation)
        assert (drift.total > one.threshold) is strange
    assert verify.command(path) == 0  # the logs are not needed to export it again


def test_too_few_logged_episodes_tell_nothing_of_a_robot(shipped, tmp_path):
    path, _ = known(shipped, tmp_path, 19)
    assert bundle.load(path).familiarity == bundle.load(shipped).familiarity


def test_evaluation_holds_one_whole_episode_of_each_copy(shipped):
    networks, _ = checkpoint.load_networks(checkpoint_of(shipped))
    contract, evaluation = networks.contract, evaluate(networks, SMALL, 12, seed=5)
    assert len(evaluation.observations) == len(evaluation.costs) == 12
    (x_limit_m,) = re.findall(r"abs\(position.x\) > ([\d.]+)", contract.costs[0].expression)
    left = [channel.name for channel in contract.observation].index("episode_left")
    place = sum(channel.size for channel in contract.observation[:left])
    for observations, costs in zip(evaluation.observations, evaluation.costs, strict=True):
        rows = contract.episode_steps
        assert observations.shape == (rows, contract.observation_size)
        assert costs.shape == (rows, len(contract.costs))
        # Of one and the same copy, in the order of time.
        np.testing.assert_allclose(observations[:, place], 1.0 - np.arange(rows) / rows, atol=1e-6)
        again = (np.abs(observations[1:, 0]) > float(x_limit_m)) * 1.0
        np.testing.assert_array_equal(costs[:-1, 0], again)
    sums = [episode.sum() for episode in evaluation.costs]
    np.testing.assert_array_equal(sums, evaluation.cost_returns[:, 0])


def test_how_well_the_cost_is_foretold_by_hand():
    """Two episodes of 4 steps that cost 2 and 6; 1 and 4 of them in the first half."""
    contract = drive_contract(episode_steps=4)
    costs = [np.array(c)[:, None] for c in ([1.0, 0.0, 0.0, 1.0], [3.0, 1.0, 1.0, 1.0])]
    prediction = Prediction((tuple(float(i) for i in range(9)),))

    def judged(ahead):
        found = prediction_errors(contract, [np.full((4, 1), ahead)] * 2, costs, prediction)
        return found["outside_corridor"]

    found = judged(3.0)
    assert found["start"] == {  # 3 and 3, of 2 and 6
        "mean_error": pytest.approx(-1.0),
        "rmse": pytest.approx(np.sqrt((1.0 + 9.0) / 2.0)),
    }
    assert found["middle"] == {  # 3 and 3, of 1 and 2
        "mean_error": pytest.approx(1.5),
        "rmse": pytest.approx(np.sqrt((4.0 + 1.0) / 2.0)),
    }
    assert judged(-5.0)["middle"]["mean_error"] == pytest.approx(-1.5)  # below 0 is 0
    # Of nothing expected, the margins needed are 2 / 1 and 6 / 1; known are 0 to 8.
    assert found["episodes"] == 2
    assert judged(0.0)["covered"] == {"0.5": 0.5, "0.8": 1.0, "0.9": 1.0}  # by 4, 7 and 8
    assert judged(-5.0)["covered"] == judged(0.0)["covered"]


def test_the_prediction_is_reported_for_each_cost_and_goes_with_the_bundle(shipped):
    held = bundle.load(shipped)
    report = held.provenance["prediction"]
    assert set(report) == {cost.name for cost in held.contract.costs}
    found = report[held.contract.costs[0].name]
    assert found["episodes"] == 10
    assert list(found["covered"]) == ["0.5", "0.8", "0.9"]  # ten episodes show no 0.95
    assert 0.0 <= found["covered"]["0.5"] <= found["covered"]["0.9"] <= 1.0
    for place in ("start", "middle"):
        assert abs(found[place]["mean_error"]) <= found[place]["rmse"]
    (shortfalls,) = held.prediction.shortfalls
    assert len(shortfalls) == 10


def test_the_prediction_covers_other_episodes_than_it_was_calibrated_on(shipped):
    networks, _ = checkpoint.load_networks(checkpoint_of(shipped))
    prediction = bundle.load(shipped).prediction
    other = evaluate(networks, SMALL, 100, seed=77)
    ahead = predict_costs(networks, other)
    covered = prediction_errors(networks.contract, ahead, other.costs, prediction)
    # With ten episodes to calibrate on, the share covered is Beta(9, 2), on average 0.82:
    # that it is below a half has a probability of 1e-2, below 0.4 of 2e-3.
    assert covered["outside_corridor"]["covered"]["0.8"] >= 0.4


def test_what_was_randomised_is_in_the_bundle_and_in_what_it_measured(shipped, tmp_path):
    """Sensors that are off by metres show in what is familiar; verify exports it so again."""
    wild = parameters(bias={"position": [-50.0, 50.0]})
    learner = Learner(dataclasses.replace(SMALL, randomise=wild))
    learner.save(tmp_path / "state.safetensors")
    export(tmp_path / "state.safetensors", tmp_path / "policy.onnx", episodes=20)
    held, nominal = bundle.load(tmp_path / "policy.onnx"), bundle.load(shipped)
    assert held.provenance["settings"]["randomise"]["bias"] == {"position": [-50.0, 50.0]}
    assert nominal.provenance["settings"]["randomise"] is None
    seen, usual = (b.golden.observation[:-2, :2] for b in (held, nominal))  # 2 are far outside
    assert np.abs(seen).max() > 25.0 > np.abs(usual).max()
    assert verify.command(tmp_path / "policy.onnx") == 0


def test_too_few_episodes_are_refused(shipped, tmp_path):
    with pytest.raises(ConfigError, match="episodes should be at least 8, received 7"):
        export(checkpoint_of(shipped), tmp_path / "policy.onnx", episodes=7)
    assert not list(tmp_path.iterdir())


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
    data, state = copied.read_bytes(), checkpoint_of(copied).read_bytes()
    changed = dataclasses.replace(
        held, _session=bundle.session(data), hash=hashlib.sha256(data).hexdigest()
    )
    with pytest.raises(BundleError, match="differs from torch"):
        verify.check_parity(changed, state)
    with pytest.raises(BundleError, match="second export differs"):
        verify.check_reproducible(changed, state)


@pytest.mark.parametrize("instead", [None, "folder", "cut off", "empty", "of another"])
def test_a_bundle_without_its_training_state_is_verified_as_far_as_it_goes(copied, capsys, instead):
    state = checkpoint_of(copied)
    content = state.read_bytes()
    state.unlink()
    if instead == "folder":
        state.mkdir()
    elif instead is not None:
        state.write_bytes({"cut off": content[:900], "empty": b""}.get(instead, content + b"\0"))
    assert main(["verify", "--policy", str(copied)]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    held, *refused = said.out.splitlines()
    assert "digest, graph and golden pairs hold" in held
    assert [line.split(":")[0] for line in refused] == [
        "refused training state", "refused parity", "refused reproducible",
    ]  # fmt: skip
    assert state.name in refused[0]
    needs = "needs the training state that the bundle was exported from"
    assert all(line.endswith(needs) for line in refused[1:])


def test_a_path_that_looks_like_markup_is_said_as_it_is(copied, capsys):
    path = copied.parent / "[red]" / "[bold].onnx"
    path.parent.mkdir()
    copied.rename(path)
    assert main(["verify", "--policy", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: digest")
    assert str(checkpoint_of(path)) in out


def changed_provenance(path, **changes):
    model = onnx.load(path)
    entries = {entry.key: entry for entry in model.metadata_props}
    provenance = json.loads(entries["holdfast_provenance"].value)
    entries["holdfast_provenance"].value = json.dumps({**provenance, **changes})
    entries["holdfast_digest"].value = bundle.PLACEHOLDER
    path.write_bytes(bundle.seal(model.SerializeToString(deterministic=True)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"checkpoint": None}, "is not the training state"),
        ({"checkpoint": {"sha256": [1]}}, "is not the training state"),
        ({"checkpoint": "text"}, "is not the training state"),
        ({"evaluation_episodes": "20"}, "provenance should say its evaluation_episodes"),
        ({"evaluation_episodes": 10**9}, "episodes should be at most 20000, received 1000000000"),
        ({"evaluation_episodes": True}, "episodes should be at least 8, received true"),
        ({"evaluation_episodes": 20.5}, "provenance should say its evaluation_episodes"),
    ],
)
def test_provenance_that_says_nonsense_is_one_sentence(copied, capsys, changes, sentence):
    changed_provenance(copied, **changes)
    assert main(["verify", "--policy", str(copied)]) == 1
    assert sentence in capsys.readouterr().out


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data.pop("settings"), "its data should hold settings, contract, iteration"),
        (lambda data: data.update(iteration="x"), "its data should hold settings, contract"),
        (lambda data: data.update(contract="{}"), "contract: missing robot"),
        (lambda data: data.update(contract=NESTED), "should nest at most 32 deep"),
        (lambda data: data["settings"].update(hidden=[10**9, 10**9]), "layer 1 should be 1000000"),
        (lambda data: data["settings"].update(hidden="ab"), "layer 1 should be 2 units"),
        (lambda data: data["settings"].update(hidden=[64]), "layer 2 should be 2 units"),
        (lambda data: data["settings"]["own"].pop("step"), r"settings\.own: missing step"),
        (lambda data: data["settings"].pop("seed"), "settings: missing seed"),
        (lambda data: data["settings"].pop("own"), "its settings are not as holdfast train"),
        (lambda data: data["settings"].update(task=3), "settings.task should be text, received 3"),
        (lambda data: data["settings"].update(seed=None), "settings.seed should be a whole"),
        (lambda data: data["settings"].update(more=1), "settings: unknown more; known are"),
    ],
)
def test_a_training_state_that_contradicts_itself_is_one_sentence(
    shipped, tmp_path, change, sentence
):
    tensors, data = checkpoint.load(checkpoint_of(shipped))
    change(data)
    checkpoint.save(tmp_path / "state.safetensors", tensors, data)
    with pytest.raises(TrainingError, match=sentence) as caught:
        export(tmp_path / "state.safetensors", tmp_path / "policy.onnx", episodes=8)
    assert str(tmp_path / "state.safetensors") in str(caught.value)
    assert not (tmp_path / "policy.onnx").exists()


@pytest.mark.parametrize(
    ("observation", "steps"),
    [
        (torch.zeros(9, 4), [9]),
        (torch.zeros(9, 5), [10]),
        (torch.zeros(9, 5), [10, -1]),
        (torch.zeros(9), [9]),
        (torch.full((9, 5), torch.nan), [9]),
        (None, [9]),
    ],
)
def test_known_observations_that_are_none_are_refused(observation, steps):
    tensors = {"known.steps": torch.tensor(steps)}
    if observation is not None:
        tensors["known.observation"] = observation
    with pytest.raises(TrainingError, match="should be whole episodes of numbers"):
        checkpoint.known_episodes(tensors, 5)


def test_mutated_training_states_are_refused_in_a_sentence_or_read(shipped, tmp_path):
    content = checkpoint_of(shipped).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng, path = np.random.default_rng(1), tmp_path / "state.safetensors"
    refused = 0
    for i in range(200):
        data = bytearray(content)
        at = int(rng.integers(8 if i < 20 else header))
        if i % 2:
            data[at] = rng.integers(256)
        else:
            del data[at : at + int(rng.integers(1, 30))]
        path.write_bytes(data)
        try:
            tensors, held = checkpoint.load(path)
            checkpoint.networks_of(path, tensors, held)
            settings_of(path, held)
        except HoldfastError as error:
            refused += "\n" not in str(error)
    assert refused > 100


def test_an_export_that_cannot_be_written_leaves_what_was_there(shipped, tmp_path, capsys):
    """The bundle fits on the disk, its training state does not."""
    small = tmp_path / "small"
    small.mkdir()
    size = shipped.stat().st_size + 8192
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (small / "policy.onnx").write_bytes(b"old")
        line = [
            "export",
            "--checkpoint",
            str(checkpoint_of(shipped)),
            "--episodes",
            "20",
            "--anyway",
        ]
        for options, reason in (("rw", "No space left on device"), ("ro", "Read-only file system")):
            subprocess.run(["mount", "-o", f"remount,{options}", str(small)], check=True)
            assert main([*line, "--out", str(small / "policy.onnx")]) == 1
            said = capsys.readouterr().err
            assert f"cannot be written ({reason})" in said
            assert said.count("\n") == 1
            assert [path.read_bytes() for path in small.iterdir()] == [b"old"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_other_robot_or_task_is_refused(shipped):
    with pytest.raises(BundleError, match="trained for robot 'point', not 'drive'"):
        verify.command(shipped, robot="drive")
    with pytest.raises(BundleError, match="trained for task"):
        verify.command(shipped, task="holdfast/DriveCircle-v0")


def test_export_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="No such file"):
        export(tmp_path / "none.safetensors", tmp_path / "policy.onnx", episodes=8)
    assert not list(tmp_path.iterdir())


def test_a_limit_that_is_not_met_is_said_and_exports_nothing(shipped, tmp_path, capsys):
    """Trained for an iteration; then the same weights under a limit that they meet."""
    tensors, data = checkpoint.load(checkpoint_of(shipped))
    out = tmp_path / "policy.onnx"

    def status(limit, *options):
        contract = contract_of(dataclasses.replace(SMALL, limit=(limit,)))
        said = {**data, "contract": contract.to_json()}
        said["settings"] = {**data["settings"], "limit": [limit]}
        checkpoint.save(tmp_path / "c.safetensors", tensors, said)
        line = ["export", "--checkpoint", str(tmp_path / "c.safetensors"), "--out", str(out)]
        return main([*line, "--episodes", "20", *options])

    cost = bundle.load(shipped).provenance["measured"]["costs"]
    ((name, measured),) = cost.items()
    assert measured["mean"] > 0.0
    assert status(0.0) == 1
    told = capsys.readouterr()
    assert f"{name} " in told.err
    assert "(limit d = 0, limit not met) per episode" in told.err
    assert "--anyway" in told.err
    assert not out.exists()
    assert status(0.0, "--anyway") == 0
    assert "(limit d = 0, limit not met)" in capsys.readouterr().out
    out.unlink()
    assert status(1000.0) == 0
    assert "(limit d = 1000) per episode" in capsys.readouterr().out
