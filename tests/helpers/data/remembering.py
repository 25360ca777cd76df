"""Recurrent policies as torch exports them, with their states as inputs and outputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from tests.helpers.data.foreign import ACTIONS, SIZE

HIDDEN = 16


class Recurrent(torch.nn.Module):
    """One recurrent layer and a head, as rsl_rl's recurrent policies are.

    Args:
        kind: LSTM, GRU or RNN.
        layers: number of recurrent layers.
    """

    def __init__(self, kind: str, layers: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.kind = kind
        self.memory = getattr(torch.nn, kind)(SIZE, HIDDEN, layers)
        self.head = torch.nn.Sequential(torch.nn.Linear(HIDDEN, ACTIONS), torch.nn.Tanh())

    def forward(self, x: Any, h: Any, c: Any = None) -> Any:
        if self.kind == "LSTM":
            y, (h, c) = self.memory(x.unsqueeze(0), (h, c))
            return self.head(y.squeeze(0)), h, c
        y, h = self.memory(x.unsqueeze(0), h)
        return self.head(y.squeeze(0)), h


def exported(folder: Path, kind: str, dynamo: bool = False, layers: int = 1) -> Path:
    """Export a policy whose states are h_in, c_in and h_out, c_out, and return its path."""
    made = Recurrent(kind, layers).eval()
    # Two tensors: of one that is given twice the exporter makes one input.
    states = [torch.zeros(layers, 1, HIDDEN) for _ in range(2 if kind == "LSTM" else 1)]
    path = folder / "policy.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made,
            (torch.zeros(1, SIZE), *states),
            str(path),
            input_names=["obs", "h_in", "c_in"][: 1 + len(states)],
            output_names=["actions", "h_out", "c_out"][: 1 + len(states)],
            opset_version=18,
            dynamo=dynamo,
            verbose=False,
        )
    return path
