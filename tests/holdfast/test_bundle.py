"""A bundle that is damaged, foreign or untrue is refused in one sentence; a good one runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from holdfast.bundle import reader as bundles
from holdfast.bundle.reader import load, sample
from holdfast.contract import ActionChannel
from holdfast.errors import BundleError
from tests.helpers.data.bundles import build, drive_contract, write_bundle


@pytest.fixture
def path(tmp_path):
    return write_bundle(tmp_path / "policy.onnx", gain=0.3, log_std=-0.5, cost_to_go=2.5)


def test_a_good_bundle_runs_and_knows_itself(path):
    bundle = load(path)
    assert bundle.contract == drive_contract()
    assert bundle.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert bundle.familiarity is None
    assert bundle.provenance == {"made_by": "tests"}
    observation = bundle.golden.observation[1]
    mean, log_std = bundle.act(observation)
    assert mean.dtype == log_std.dtype == np.float64
    np.testing.assert_allclose(mean, bundle.golden.action[1], atol=1e-6)
    np.testing.assert_allclose(log_std, [-0.5, -0.5])
    np.testing.assert_allclose(bundle.cost_to_go(observation), [2.5])
    bundle.expect(robot="drive", task="holdfast/DriveCircle-v0")


def test_onnx_runtime_tells_nobody(path, tmp_path):
    """ONNX Runtime's telemetry would keep a database in the account's folder."""
    home = tmp_path / "home"
    home.mkdir()
    program = "import sys; from holdfast.bundle.reader import load; load(sys.argv[1])"
    given = {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program, str(path)], env=given, check=True, timeout=120)
    assert not list(home.rglob("*"))


def test_any_flipped_byte_is_refused(path):
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    for place in rng.choice(len(data), 200, replace=False):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=r"digest|bytes"):
            load(path)


def test_any_shortened_file_is_refused(path):
    data = path.read_bytes()
    for size in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(BundleError):
            load(path)


def test_expect_names_both(path):
    with pytest.raises(BundleError, match=r"robot 'drive', not 'turtlebot3'"):
        load(path).expect(robot="turtlebot3")
    with pytest.raises(BundleError, match=r"task 'holdfast/DriveCircle-v0', not 'x'"):
        load(path).expect(robot="drive", task="x")


def test_files_that_are_no_bundles(tmp_path):
    with pytest.raises(BundleError, match=r"cannot be read \(No such file"):
        load(tmp_path / "nothing.onnx")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BundleError, match="not a Holdfast bundle"):
        load(tmp_path / "text")


def of_another_time():
    """A bundle in a version of ONNX that ONNX Runtime does not know."""
    model = onnx.load_from_string(build(drive_contract()))
    model.ir_version = 10**6
    model.metadata_props[-1].value = bundles.PLACEHOLDER
    return bundles.seal(model.SerializeToString(deterministic=True))


@pytest.mark.parametrize(
    ("rubbish", "sentence"),
    [
        (bundles.seal(b"rubbish holdfast_digest\x12\x40" + b"0" * 64), "is no ONNX file"),
        (of_another_time(), "ONNX Runtime cannot load it"),
    ],
)
def test_sealed_rubbish_is_refused_without_noise(tmp_path, rubbish, sentence):
    """The digest fits: one sentence, nothing on stderr."""
    (tmp_path / "rubbish.onnx").write_bytes(rubbish)
    code = (
        "import sys; from holdfast.bundle.reader import load\n"
        "try: load(sys.argv[1])\nexcept Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rubbish.onnx")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("BundleError")
    assert sentence in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("value", [-1e4, 80.0])
def test_a_density_that_cannot_be_computed_is_refused(tmp_path, value):
    with pytest.raises(BundleError, match=rf"'log_std' should be at most 20 in size.*{value:g}"):
        load(write_bundle(tmp_path / "policy.onnx", log_std=value))


GOLDEN = {"observation": [[0.0] * 9], "action": [[0.0, 0.0]], "log_std": [[-1.0, -1.0]]}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"entries": {"format": "1"}}, "format should be 2, received 1"),
        ({"entries": {"contract": "{}"}}, "contract: missing robot"),
        ({"entries": {"contract": "nonsense"}}, "contract: should be JSON"),
        ({"entries": {"provenance": "[1]"}}, "holdfast_provenance should be a mapping"),
        ({"entries": {"familiarity": "{"}}, "holdfast_familiarity should be JSON"),
        ({"entries": {"golden": "{}"}}, "holdfast_golden should hold observation, action"),
        ({"entries": {"golden": json.dumps({**GOLDEN, "cost_to_go": [[1.0]]})}}, "'cost_to_go'"),
        ({"entries": {"golden": json.dumps({**GOLDEN, "cost_to_go": [["?"]]})}}, "of numbers"),
        ({"entries": {"golden": json.dumps({**GOLDEN, "cost_to_go": []})}}, "a row of 1 per"),
        ({"sizes": (8, 2)}, r"'observation' should be float \[batch, 9\]"),
        ({"sizes": (9, 3)}, r"'action' should be float \[batch, 2\]"),
    ],
)
def test_what_its_metadata_says_must_hold(tmp_path, options, sentence):
    path = write_bundle(tmp_path / "b.onnx", **options)
    with pytest.raises(BundleError, match=sentence):
        load(path)


def test_golden_pairs_that_do_not_reproduce(tmp_path):
    golden = {**GOLDEN, "cost_to_go": [[0.0]], "action": [[2e-5, 0.0]]}
    path = write_bundle(tmp_path / "b.onnx", entries={"golden": json.dumps(golden)})
    with pytest.raises(BundleError, match="'action' differs by 2e-05"):
        load(path)
    golden["action"] = [[5e-6, 0.0]]
    write_bundle(path, entries={"golden": json.dumps(golden)})
    load(path)


def test_an_action_outside_the_limits_is_refused(tmp_path):
    """The graph squashes into ±1 m/s; a contract that allows ±0.5 m/s does not fit it."""
    narrow = drive_contract(
        action=(
            ActionChannel("forward_speed", "m/s", -0.5, 0.5, 4.0),
            ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
        )
    )
    path = write_bundle(
        tmp_path / "b.onnx", drive_contract(), gain=1.0, entries={"contract": narrow.to_json()}
    )
    with pytest.raises(BundleError, match="inside the limits"):
        load(path)


def test_seal_wants_one_placeholder():
    data = build(drive_contract())
    with pytest.raises(BundleError, match="already sealed"):
        bundles.seal(data)
    with pytest.raises(BundleError, match="no digest"):
        bundles.seal(data + data)


def test_sampled_actions_have_the_logged_density():
    """Against the density of a Gaussian written out independently, and by its moments."""
    contract = drive_contract()
    mean, log_std = np.array([0.8, -1.0]), np.array([-0.7, 0.2])
    rng = np.random.default_rng(5)
    actions, log_probs = [], []
    for _ in range(4000):
        action, log_prob = sample(mean, log_std, rng, contract)
        scaled = action / [1.0, 2.0]  # limits are ±1 m/s and ±2 rad/s
        expected = 1.0
        for u, m, s in zip(scaled, [0.8, -0.5], np.exp(log_std), strict=True):
            expected *= math.exp(-((u - m) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))
        assert log_prob == pytest.approx(math.log(expected), abs=1e-9)
        actions.append(action)
        log_probs.append(log_prob)
    np.testing.assert_allclose(np.mean(actions, axis=0), mean, atol=0.1)
    np.testing.assert_allclose(np.std(actions, axis=0), [0.4966, 2.4428], rtol=0.05)
    assert np.max(np.abs(actions), axis=0)[0] > 1.0  # not clipped
