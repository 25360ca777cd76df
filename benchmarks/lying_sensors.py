"""Lies at full speed: when the monitor sees what, and when the robot stands.

    python benchmarks/lying_sensors.py --seeds 20

Prints the table of docs/reference/SAFETY.md, Markdown: sensors that freeze, mirror, halve, jump and
drift in chosen directions, on the nominal twin and on the twin of the demo's gap, in lockstep.
"Seen" is the first reason other than those of the fence. Times count from when the lie began.
Two idle cores take two minutes. The campaign of all faults is benchmarks/faults.py.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from holdfast.signals import Array
from tests.helpers.faults.lies import KINDS, Maker, Quantity
from tests.helpers.faults.lying_twin import Case, Outcome, play

AHEAD = {"ahead": 0.0, "to the left": math.pi / 2.0, "behind": math.pi}
SPEEDS_M_S, JUMPS_M = (0.5, 0.3, 0.2), (0.5, 2.0)


def _along(turn_rad: float, far_m: Callable[[float], float]) -> Callable[..., Maker]:
    """Return a kind that adds so much, by the time, in a direction from where the robot drives."""

    def make(quantity: Quantity, rng: np.random.Generator) -> Maker:
        honest: list[Array] = []

        def maker(since_s: float, value: Array, base: Array) -> Array:
            if since_s < 0.0:
                honest.append(value)
                return value
            x, y = honest[-1] - honest[0]
            toward = math.atan2(y, x) + turn_rad
            return value + far_m(since_s) * np.array([math.cos(toward), math.sin(toward)])

        return maker

    return make


def _drift(speed_m_s: float) -> Callable[[float], float]:
    return lambda since_s: speed_m_s * since_s


def _jump(far_m: float) -> Callable[[float], float]:
    return lambda since_s: far_m


KINDS |= {
    f"drift of {speed} m/s, {where}": _along(turn, _drift(speed))
    for speed in SPEEDS_M_S
    for where, turn in AHEAD.items()
}
KINDS |= {f"jumps by {far} m to the left": _along(math.pi / 2.0, _jump(far)) for far in JUMPS_M}

ROWS = [
    ("pose frozen", "pose", "stuck"),
    ("everything frozen", "all signals", "stuck"),
    ("speeds frozen", "speeds", "stuck"),
    ("speeds zero and pose frozen", "all signals", "off: unplugged"),
    *((f"{what} mirrored", about, "wrong: mirrored") for what, about in (
        ("pose", "pose"), ("speeds", "speeds"), ("pose and speeds", "all signals"),
    )),
    *((f"{what} halved", about, "wrong: half") for what, about in (
        ("pose", "pose"), ("speeds", "speeds"), ("pose and speeds", "all signals"),
    )),
    *((f"position {kind}", "position", kind) for kind in KINDS if kind.startswith("jumps")),
    *((kind, "position", kind) for kind in KINDS if kind.startswith("drift of")),
]  # fmt: skip
"""What the table calls it, what is lied about, and how."""


def figures(times: Sequence[float | None]) -> str:
    """Return median and worst, or how often it never was."""
    never = sum(time is None for time in times)
    if never:
        return f"never in {never} of {len(times)}"
    known = [max(time, 0.0) for time in times if time is not None]
    return f"{statistics.median(known):.2f} / {max(known):.2f}"


def since_it_began(outcome: Outcome, since_s: float | None) -> float | None:
    """Return a time since the lie showed as one since it began."""
    return None if since_s is None else since_s + (outcome.shows_s or 0.0)


def row(name: str, twins: Sequence[Sequence[Outcome]]) -> str:
    """Return a line of the table: the nominal twin's tries, then the gap's."""
    cells, reasons, beyond_m = [name], Counter[str](), []
    for tries in twins:
        cells.append(figures([since_it_began(o, o.noticed_s) for o in tries]))
        cells.append(figures([since_it_began(o, o.motion.standing_s) for o in tries]))
        reasons.update(o.noticed or o.stopped_by for o in tries)
        beyond_m.append(max(o.motion.beyond_m for o in tries))
    cells.append(", ".join(f"`{code}`" for code, _ in reasons.most_common() if code))
    cells.append(" / ".join(f"{far:.2f}" for far in beyond_m))
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="tries of each lie (20)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (all cores)")
    arguments = parser.parse_args()
    twins = [
        [Case(kind, about, "full speed", seed, gapped) for seed in range(arguments.seeds)]
        for _, about, kind in ROWS
        for gapped in (False, True)
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        every = pool.map(play, [case for tries in twins for case in tries], chunksize=4)
    print(
        "| fault | nominal: seen | nominal: standing | gap: seen | gap: standing | reason |", end=""
    )
    print(" beyond fence, m: nominal / gap |\n|" + " --- |" * 7)
    tries = [every[i : i + arguments.seeds] for i in range(0, len(every), arguments.seeds)]
    for index, (name, _, _) in enumerate(ROWS):
        print(row(name, tries[2 * index : 2 * index + 2]))


if __name__ == "__main__":
    main()
