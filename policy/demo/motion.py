"""The animation's data: the first episodes of the run before and of the run after."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from holdfast.expressions import places
from holdfast.log.format import COMPLETED
from holdfast.log.reader import Episode, Log
from holdfast.sim.tasks.task import Task

SHOWN = 12
"""Most robots that drive at the same time."""

FRAME_S = 0.1
"""Longest time between two frames, s."""

CELLS = 60
"""Rows and columns of the map of places without cost."""

MARGIN_M = 0.15


def motion(before: Log, after: Log, task: Task) -> str:
    """Return what the page's animation draws, as JSON without a `<`."""
    contract = before.info.contract
    stride = max(1, math.floor(FRAME_S / contract.period_s))
    shown = [run.episodes[:SHOWN] for run in (before, after)]
    position = np.concatenate([e.signals["position"][:, :2] for run in shown for e in run])
    low, high = position.min(axis=0) - MARGIN_M, position.max(axis=0) + MARGIN_M
    x, y = (np.linspace(low[i], high[i], CELLS) for i in range(2))
    billed = places.billed(contract, np.stack(np.meshgrid(x, y), axis=-1))
    data = {
        "frame_s": stride * contract.period_s,
        "low": low.round(3).tolist(),
        "high": high.round(3).tolist(),
        "billed": None if billed is None else _rows(np.asarray(billed)),
        "radius": getattr(task, "radius_m", None),
        "limit": contract.costs[0].limit,
        "runs": [[_episode(each, stride) for each in run] for run in shown],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _rows(billed: Any) -> list[str]:
    return ["".join("1" if cell else "0" for cell in row) for row in billed > 0]


def _episode(episode: Episode, stride: int) -> dict[str, Any]:
    """Return each frame's place (cm), the first cost up to it, and whether a cost was billed."""
    rows = np.arange(0, len(episode.costs), stride)
    spent = np.cumsum(episode.costs[:, 0])
    total = np.cumsum(episode.costs.sum(axis=1))
    position = np.rint(episode.signals["position"][rows] * 100.0).astype(int)
    return {
        "x": position[:, 0].tolist(),
        "y": position[:, 1].tolist(),
        "spent": [float(f"{value:.4g}") for value in spent[rows]],
        "billed": "".join("1" if step > 0 else "0" for step in np.diff(total[rows], prepend=0.0)),
        "stopped": episode.result.ended != COMPLETED,
    }
