"""Figures of runs as SVG texts, with the colours of the page's style sheet."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from holdfast.log.format import COMPLETED, STOPPED
from holdfast.log.reader import Episode
from holdfast.robot.view.results import Results
from holdfast.signals import Array

PATHS_SHOWN = 24
POINTS_SHOWN = 400
"""Points of one path; of more, every second, third, … is drawn."""

FARTHEST_M = 1e6
"""What is further away is drawn no more."""

WIDE, HIGH = 560.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 8.0, 10.0, 24.0


def _svg(width: float, height: float, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(title)}">'
        f"{body}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def costs(run: Results, k: int, most: float) -> str:
    """Draw each episode's k-th cost against the limit d and the episode cap.

    Args:
        most: the largest cost in view, of all runs that are compared.
    """
    cost = run.log.info.contract.costs[k]
    cap = run.log.info.episode_cap[cost.name]
    count = max(len(run), 1)

    def at(episode: float, value: float) -> tuple[float, float]:
        x = LEFT + (episode + 0.5) / count * (WIDE - LEFT - RIGHT)
        return x, HIGH - BOTTOM - value / most * (HIGH - TOP - BOTTOM)

    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{HIGH - BOTTOM}H{WIDE - RIGHT}"/>']
    for value, label in ((cost.limit, "limit d"), (cap, "episode cap")):
        if np.isfinite(value) and value <= most:
            y = at(0, value)[1]
            parts.append(f'<path class="bound" d="M{LEFT} {y:.1f}H{WIDE - RIGHT}"/>')
            parts.append(_text(WIDE - RIGHT, y - 7, f"{label} {value:g}", "end"))
    for number, (value, episode) in enumerate(zip(run.costs[:, k], run.log.episodes, strict=True)):
        ended = episode.result.ended
        kind = ended if ended in (COMPLETED, STOPPED) else "torn"
        x, y = at(number, min(max(value, 0.0), most) if np.isfinite(value) else 0.0)
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    parts.append(_text(LEFT - 6, HIGH - BOTTOM, "0", "end"))
    parts.append(_text(LEFT - 6, TOP + 8, f"{most:.3g}", "end"))
    parts.append(_text((LEFT + WIDE) / 2, HIGH - 6, f"episode, 0 to {count - 1}", "middle"))
    return _svg(WIDE, HIGH, f"{cost.name} of each episode of {run.name}", "".join(parts))


def paths(run: Results) -> str:
    """Draw the paths of the first episodes, the geofence, and where a cost was billed."""
    drawn = [e for e in run.log.episodes[:PATHS_SHOWN] if "position" in e.signals]
    fenced = fences(run) or []
    points = [e.signals["position"] for e in drawn] + [np.array(fence) for fence in fenced]
    points = [
        each[(np.abs(each) < FARTHEST_M).all(axis=1)]
        for each in points  # a NaN is not below
    ]
    points = [each for each in points if len(each)]
    if not points:
        return ""
    low = np.min([each.min(axis=0) for each in points], axis=0)
    high = np.max([each.max(axis=0) for each in points], axis=0)
    scale = float(min((WIDE - 30) / max(high[0] - low[0], 0.5), 330 / max(high[1] - low[1], 0.5)))
    height = float(high[1] - low[1]) * scale + 50
    start = (WIDE - float(high[0] - low[0]) * scale) / 2

    def at(xy: Array) -> str:
        x, y = start + (xy[0] - low[0]) * scale, 10 + (high[1] - xy[1]) * scale
        return f"{x:.1f} {y:.1f}"

    parts = [
        f'<path class="fence" d="M{"L".join(at(np.array(xy)) for xy in fence)}Z"/>'
        for fence in fenced
    ]
    for episode in drawn:
        parts += _path(episode, at)
    meters = _round(120 / scale)
    parts.append(f'<path class="scalebar" d="M14 {height - 10:.1f}h{meters * scale:.1f}"/>')
    parts.append(_text(14, height - 16, f"{meters:g} m"))
    return _svg(WIDE, height, f"paths of {run.name}", "".join(parts))


def _path(episode: Episode, at: Callable[[Array], str]) -> list[str]:
    """Draw one path in two pieces, without and with a cost."""
    position, rows = episode.signals["position"], len(episode.costs)
    every = -(-rows // POINTS_SHOWN)
    billed = [bool((row > 0.0).any()) for row in episode.costs]
    pieces: dict[str, list[str]] = {"free": [], "paid": []}
    for begin in range(0, rows - 1, every):
        end = min(begin + every, rows - 1)
        if bool((np.abs(position[[begin, end]]) < FARTHEST_M).all()):
            kind = "paid" if any(billed[begin + 1 : end + 1]) else "free"
            pieces[kind].append(f"M{at(position[begin])}L{at(position[end])}")
    return [f'<path class="{kind}" d="{"".join(made)}"/>' for kind, made in pieces.items() if made]


def fences(run: Results) -> list[Sequence[Sequence[float]]] | None:
    """Return the polygons of the log's geofence; None if it is written in a form of its own."""
    fence = run.log.info.limits.get("geofence")
    if fence is None:
        return []
    if not isinstance(fence, dict):
        return None
    inside, outside = fence.get("keep_in_m"), fence.get("keep_out_m") or []
    if not isinstance(outside, list):
        return None
    polygons = [*([] if inside is None else [inside]), *outside]
    return polygons if all(map(_is_polygon, polygons)) else None


def _is_polygon(data: Any) -> bool:
    """Return whether data of a log is a polygon that can be drawn."""
    return (
        isinstance(data, list)
        and len(data) >= 3
        and all(isinstance(xy, list) and len(xy) == 2 for xy in data)
        and all(isinstance(value, int | float) for xy in data for value in xy)
        and all(abs(value) < FARTHEST_M for xy in data for value in xy)  # NaN is not below
    )


def _round(value: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is at most a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step * power for step in (1, 2, 5) if step * power <= value))
