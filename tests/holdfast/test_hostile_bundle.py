"""Bundles whose metadata or file was made to do harm: refused in one sentence, and at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import helper

from holdfast.bundle import reader as bundles
from holdfast.cli import main
from holdfast.errors import BundleError
from tests.helpers.data.bundles import build, drive_contract, write_bundle
from tests.helpers.data.hostile import model_of, refusal, sealed


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        *(({key: nested(100_000)}, f"holdfast_{key} should be JSON (should nest at most 32 deep)")
          for key in ("golden", "familiarity", "prediction", "provenance")),
        ({"contract": nested(100_000)}, "should nest at most 32 deep"),
        ({"contract": "[" * 10_000_000}, "should nest at most 32 deep"),
        ({"golden": json.dumps({name: [[10**400]] for name in ("observation", *bundles.OUTPUTS)})},
         "holdfast_golden should be JSON (should have at most 39 digits"),
        ({"golden": json.dumps(dict.fromkeys(("observation", *bundles.OUTPUTS), 3))},
         "holdfast_golden.observation should have a row of 9 per pair"),
        ({"format": "9" * 10_000}, "bundle format should be 2, received 999"),
    ],
)  # fmt: skip
def test_metadata_that_is_made_to_break_its_reader(tmp_path, entries, sentence):
    said = refusal(build(drive_contract(), entries=entries), tmp_path)
    assert sentence in said
    assert len(said) < 300


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    """The last one would win, and another reader may take the first."""
    model = model_of()
    again = model.metadata_props.add()
    again.key, again.value = "holdfast_contract", "{}"
    assert "hold each key once" in refusal(sealed(model), tmp_path)


def test_a_graph_that_is_there_twice_is_refused(tmp_path):
    """Protocol Buffers would merge the two: half of the operators from each."""
    data = model_of().SerializeToString(deterministic=True)
    extra = onnx.ModelProto()
    extra.graph.node.append(helper.make_node("Tanh", ["observation"], ["more"]))
    blank = re.sub(rb"(holdfast_digest\x12\x40)[0-9a-f]{64}", rb"\g<1>" + b"0" * 64, data)
    assert "the model should have 'graph' once" in refusal(
        bundles.seal(blank + extra.SerializeToString()), tmp_path
    )


def test_every_sealed_mutation_is_refused_in_a_sentence_or_harmless(tmp_path):
    """2,000 files with bytes changed, cut out or put in, and a digest that fits again."""
    whole = build(drive_contract(), gain=0.3)
    place = whole.index(b"holdfast_digest\x12\x40") + 17
    blank = whole[:place] + b"0" * 64 + whole[place + 64 :]
    rng, path = np.random.default_rng(7), tmp_path / "policy.onnx"
    refused = taken = 0
    for _ in range(2000):
        data = bytearray(blank)
        at, kind = int(rng.integers(len(data))), rng.integers(3)
        if kind == 0:
            data[at] = rng.integers(256)
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 40))]
        else:
            data[at:at] = rng.bytes(int(rng.integers(1, 40)))
        try:
            path.write_bytes(bundles.seal(bytes(data)))
            bundles.load(path)
        except BundleError as error:
            refused += "\n" not in str(error)
        else:
            taken += 1
    assert refused + taken == 2000
    assert refused > 1000


@pytest.mark.parametrize("command", ["verify", "deploy"])
def test_what_is_no_file_is_refused_at_once(tmp_path, capsys, command):
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "empty.onnx").touch()
    with (tmp_path / "sparse.onnx").open("wb") as file:
        file.truncate(10 * 2**30)
    robot = ["--robot", "serial:/nowhere"] if command == "deploy" else []
    for name, sentence in (
        ("folder.onnx", "cannot be read (it should be a file, not a folder)"),
        ("pipe.onnx", "cannot be read (it should be a file)"),
        ("empty.onnx", "not a Holdfast bundle: it holds no digest"),
        ("sparse.onnx", "should have at most 67108864 bytes, it has 10737418240"),
        ("none.onnx", "cannot be read (No such file or directory)"),
        ("no\0ne.onnx", "cannot be read (embedded null byte)"),
    ):
        path = tmp_path / name
        began_s = time.monotonic()
        assert main([command, "--policy", str(path), *robot]) == 1
        assert time.monotonic() - began_s < 5.0
        said = capsys.readouterr().err
        assert sentence in said
        assert said.count("\n") == 1


def test_a_bundle_that_is_replaced_while_it_is_read_is_the_one_or_the_other(tmp_path):
    """Renamed over, as export does, a hundred times a second; never a mixture of both."""
    path, done = tmp_path / "policy.onnx", threading.Event()
    kinds = [build(drive_contract(), cost_to_go=cost) for cost in (1.0, 2.0)]
    path.write_bytes(kinds[0])

    def replace():
        number = 0
        while not done.wait(0.01):
            number += 1
            part = tmp_path / "part"
            part.write_bytes(kinds[number % 2])
            os.replace(part, path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = {bundles.load(path).golden.cost_to_go[0, 0] for _ in range(30)}
    finally:
        done.set()
        thread.join()
    assert seen == {1.0, 2.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_loading_is_deaf_to_no_signal(tmp_path, number):
    code = (
        "import sys; from holdfast.bundle.reader import load\n"
        "print('ready', flush=True)\nwhile True: load(sys.argv[1])"
    )
    path = write_bundle(tmp_path / "policy.onnx")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=5.0)
    finally:
        process.kill()
    assert process.returncode == -number
    assert not err or err.splitlines()[-1] == "KeyboardInterrupt"
