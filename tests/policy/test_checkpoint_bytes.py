"""A checkpoint's bytes are the same in every process: its digest is in the bundle."""

import subprocess
import sys

import safetensors.torch

WRITE = """
import sys, torch
from holdfast.policy.models import checkpoint
tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.float64), "c": torch.ones(1)}
sys.stdout.buffer.write(checkpoint.content(tensors, {"word": "é", "number": 1}))
"""


def test_every_process_writes_the_same_bytes():
    """safetensors alone writes the metadata in one of two orders: six times alike is 1 in 32."""
    made = [subprocess.check_output([sys.executable, "-c", WRITE]) for _ in range(6)]
    assert len(set(made)) == 1
    tensors = safetensors.torch.load(made[0])
    assert tensors["b"].tolist() == [0.0, 1.0, 2.0]
    assert tensors["a"].tolist() == [1.0, 1.0]
