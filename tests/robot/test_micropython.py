"""The device's file runs under MicroPython as it does here."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MICROPYTHON = (
    ROOT
    / "build/micropython/node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs"
)

SCENARIO = """
import binascii
import struct
import device

class Pin(device.Board):
    robot = "pin"
    hardware_id = "p1"
    signals = (("position", 2), ("tilt", 2))
    actions = ("left", "right")
    action_low = (-1.0, -0.35)
    action_high = (1.0, 0.35)
    time_us = 10 ** 12
    def now_us(self):
        return self.time_us
    def actuate(self, values):
        print("actuate", ["%.6f" % v for v in values])
    def halt(self):
        print("halt")
    def measure(self):
        return (0.5, -0.25, 0.1, float("nan"))
    def replace(self):
        print("replace")

def command(a, b, valid_us=100000):
    return struct.pack("<I2d", valid_us, a, b)

pin = Pin()
it = device.Device(pin)
sequence = 0
for kind, payload, wait_us in (
    (device.ARM, b"", 0), (device.HELLO, b"", 0), (device.ARM, b"", 20000),
    (device.COMMAND, command(0.5, 0.35), 50000), (device.COMMAND, command(-1.0, -0.35), 150000),
    (device.COMMAND, command(0.5, 0.1, 2 ** 32 - 1), 250000), (device.ARM, b"", 0),
    (device.RESET, b"", 0), (device.ARM, b"", 0), (device.COMMAND, command(float("nan"), 0), 0),
    (device.RESET, b"", 0), (device.ARM, b"", 0), (device.COMMAND, command(0.0, 0.36), 0),
    (device.RESET, b"", 0), (device.ARM, b"", 0), (device.COMMAND, b"xyz", 0),
    (device.ESTOP, b"", 0), (device.STATE, b"", 0), (99, b"", 0), (device.DISARM, b"", 0),
):
    sequence += 1
    frame = device.encode(kind, sequence, pin.time_us, payload)
    it.feed(b"noise\\x00" + frame[:9])
    it.feed(frame[9:])
    it.feed(frame[:-3] + b"?" + frame[-2:])
    print(kind, it.armed, it.latched, binascii.hexlify(it.poll()))
    pin.time_us += wait_us
    print(binascii.hexlify(it.poll()))
long = bytes(range(256)) * 5 + b"a" * 600
print(device.cobs_decode(device.cobs_encode(long)) == long, device.cobs_decode(b"\\x05ab"))
"""
RUNNER = """
import { loadMicroPython } from %r;
import fs from "fs";
const micropython = await loadMicroPython({ heapsize: 192 * 1024 });
micropython.FS.mkdir("/flash");
micropython.FS.writeFile("/flash/device.py", fs.readFileSync(process.argv[1]));
micropython.runPython(
  "import sys; sys.path.append('/flash'); assert sys.implementation.name == 'micropython'"
);
micropython.runPython(fs.readFileSync(0, "utf8"));
"""


def test_it_runs_under_micropython_as_it_does_here():
    """The same bytes and the same acts, within 192 KiB of heap: what a small board has."""
    node = shutil.which("node")
    module = Path(os.environ.get("HOLDFAST_MICROPYTHON", MICROPYTHON))
    if node is None or not module.exists():
        pytest.skip(
            "MicroPython is absent: npm install --prefix build/micropython "
            "@micropython/micropython-webassembly-pyscript"
        )
    here = subprocess.run(
        [sys.executable, "-c", SCENARIO],
        env={**os.environ, "PYTHONPATH": str(ROOT / "robot" / "serial")},
        capture_output=True,
        text=True,
        check=True,
    )
    there = subprocess.run(
        [
            node,
            "--input-type=module",
            "-e",
            RUNNER % str(module),
            str(ROOT / "robot/serial/device.py"),
        ],
        input=SCENARIO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == here.stdout
    assert here.stdout.count("actuate") == 3


def test_it_keeps_to_the_subset_that_micropython_runs():
    """Without MicroPython at hand, this much can be said: modules and syntax that it has."""
    tree = ast.parse((ROOT / "robot/serial/device.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert sorted(name.name for node in imports for name in node.names) == ["binascii", "struct"]
    foreign = (ast.Match, ast.AsyncFunctionDef, ast.JoinedStr, ast.Delete, ast.Try, ast.AnnAssign)
    assert not [node for node in ast.walk(tree) if isinstance(node, foreign)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert not node.decorator_list
        if isinstance(node, ast.FunctionDef):
            assert not node.args.posonlyargs
