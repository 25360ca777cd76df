"""What a robot had better do when its episode is predicted to cost too much.

    python -m benchmarks.handover --out docs/measured/HANDOVER.md [--gaps 12] [--episodes 20]

Trains DriveCircle by the defaults with 3 seeds, draws gaps at random, and runs a policy on the twin
of each gap under each rule of `budget.on_prediction`, with the same seeds. A gap whose runs cost
less than the limit d under `go_on` is counted too: a rule that only costs return shows there. What
is in the work folder already is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.slowed import Bench, stopped, worth
from holdfast.policy.page import markdown_table

RULES = ("go_on", "slow", "recover", "stop")
SEEDS = 3

Worth = Mapping[str, float]
HOME = {
    "name": "return_to_point",
    "parameters": {
        "x_m": 0.0,
        "y_m": 0.0,
        "speed_m_s": 0.5,
        "yaw_rate_rad_s": 1.5,
        "arrived_m": 0.2,
    },
}
"""The recovery controller of the rule `recover`: to the middle of the corridor."""


def drawn(number: int) -> Mapping[str, Any]:
    """Return a gap: wheels, grip, mass, motors and delay, from ranges about the demo's."""
    rng = np.random.default_rng([29, number])
    wheel, grip = rng.uniform(0.9, 1.15), rng.uniform(0.3, 1.0)
    return {
        "mass": float(rng.uniform(0.8, 1.4)),
        "size": {name: float(wheel) for name in ("left_tyre", "right_tyre")},
        "friction": {name: float(grip) for name in ("left_tyre", "right_tyre")},
        "gain": {"left_motor": float(rng.uniform(0.9, 1.0))},
        "delay": {"command": int(rng.integers(0, 6))},
        "pose": "reckoned",
    }


HEAD = """# What a robot had better do when its episode is predicted to cost too much

Made by `benchmarks/handover.py`: DriveCircle (d = 10, episode cap 30), trained by the defaults
with {seeds} seeds on robots that are all alike, and run on twins with {gaps} random gaps,
{episodes} episodes under each rule of `budget.on_prediction` with the same seeds, exploring.
The prediction covers half of the episodes (`episode_coverage` 0.5), and the recovery controller
drives to the middle of the corridor. Cost and return per episode: mean over gaps and its range;
the difference with its standard error over gaps.
"""

TAIL = """
Slowing costs a sixth of the return and lowers no cost: at half its speed a robot is outside of
the corridor for twice as long. The recovery controller and the stop lower the cost, for 22 and
27 % of the return; the aim was a lower cost for at most 10 %, which no rule reaches. So a
robot's file that says nothing means `go_on`, until the episode cap. Whoever wants less cost
than the cap allows, at any price in return, says `stop` or `recover`, or lowers the cap.
"""


def page(found: Mapping[str, list[Worth]], caps: Mapping[str, list[int]], episodes: int) -> str:
    """Return the comparison of all rules with `go_on`, over gaps."""
    alone = found["go_on"]
    rows = []
    for rule, values in found.items():
        cost, reward = ([each[what] for each in values] for what in ("cost", "return"))
        less = [a["cost"] - b["cost"] for a, b in zip(values, alone, strict=True)]
        share = sum(reward) / sum(each["return"] for each in alone)
        rows.append(
            [
                f"`{rule}`",
                f"{np.mean(cost):.1f} [{min(cost):.1f}, {max(cost):.1f}]",
                f"{np.mean(reward):.1f} [{min(reward):.1f}, {max(reward):.1f}]",
                f"{np.mean(less):+.1f} ± {np.std(less, ddof=1) / np.sqrt(len(less)):.1f}",
                f"{share:.0%}",
                f"{sum(caps[rule])} of {episodes * len(values)}",
            ]
        )
    head = ("rule", "cost", "return", "cost beside `go_on`", "share of its return", "hit the cap")
    intro = HEAD.format(seeds=SEEDS, gaps=len(alone), episodes=episodes)
    return "\n".join((intro, *markdown_table(head, rows))) + TAIL


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the tables here (Markdown)")
    parser.add_argument("--work", type=Path, default=Path("runs/handover"))
    parser.add_argument("--gaps", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=20)
    arguments = parser.parse_args()
    found: dict[str, list[Worth]] = {rule: [] for rule in RULES}
    caps: dict[str, list[int]] = {rule: [] for rule in RULES}
    for number in range(arguments.gaps):
        bench = Bench(arguments.work / str(number % SEEDS), number % SEEDS)
        for rule in RULES:
            run = bench.run(
                f"gap {number} {rule}",
                bench.parent(),
                drawn(number),
                arguments.episodes,
                familiarity="never",
                recovery=HOME,
                on_prediction=rule,
            )
            found[rule].append(worth(run))
            caps[rule].append(stopped(run, "episode_cap_spent"))
    text = page(found, caps, arguments.episodes)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
