"""How true identified parameters and their spreads are: docs/guides/IDENTIFY.md states the results.

    python -m benchmarks.identify gaps [GAPS] [SECONDS]   # twins of random gaps; no parameter named
    python -m benchmarks.identify speed [SECONDS]  # wall time, with what the demo searches for
    python -m benchmarks.identify csv FOLDER PARAMETERS…  # poses at the ends of motions, in folds

The CSV files are as docs/guides/IDENTIFY.md describes, each with motions of one robot, for robot
`drive`: time, command.forward_speed, command.yaw_rate, position.x, position.y (of the origin of
the model's base, 8 cm behind the axle) and heading. Each fifth file in turn is left out of the fit.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from holdfast.policy.demo.demo import PARAMETERS, SEARCH
from holdfast.policy.identification.compare import Comparison
from holdfast.policy.identification.csv_file import from_csv
from holdfast.policy.identification.identify import Identified, Judge, identify
from holdfast.policy.identification.search import SearchSettings
from holdfast.policy.identification.tracks import Recorded, pieces
from holdfast.sim.registry import registered
from tests.helpers.robots.recorded import recorded

TASK = "DriveCircle-v0"
NOISE = {"position": 0.01, "heading": 0.01, "forward_speed": 0.02, "yaw_rate": 0.02}
TYRES = "size:left_tyre+right_tyre"
FOLDS = 5


def random_gap(rng: np.random.Generator) -> tuple[dict[str, object], dict[str, float]]:
    """Return a gap as a file has it, and its true values by the names of `identify`."""
    wheel, friction = rng.uniform(0.9, 1.15), rng.uniform(0.45, 0.9)
    mass, delay = rng.uniform(0.8, 1.5), int(rng.integers(0, 5))
    left, right = rng.uniform(0.9, 1.05, 2)
    level = (0.08 * wheel - 0.05) / 0.03  # the caster's size with which the robot stands level
    gap: dict[str, object] = {
        "size": {"left_tyre": wheel, "right_tyre": wheel, "caster": level},
        "friction": {"left_tyre": friction, "right_tyre": friction},
        "gain": {"left_motor": left, "right_motor": right},
        "mass": mass, "delay": delay, "noise": NOISE,
    }  # fmt: skip
    true = {
        TYRES: wheel, "size:caster": level, "friction": friction, "mass": mass, "delay": delay,
        "gain:left_motor": left, "gain:right_motor": right,
    }  # fmt: skip
    return gap, true


def gaps(count: int, seconds: float) -> None:
    """Identify twins of random gaps, and print errors in spreads and the share within two."""
    rng = np.random.default_rng(0)
    within: dict[str, list[tuple[bool, float]]] = {}
    cpu = []
    for seed in range(count):
        gap, true = random_gap(rng)
        motion = recorded(TASK, gap, episodes=round(seconds / 12.5), seed=seed)
        begin = time.process_time()
        found = identify(motion, (), (), "known", None, SearchSettings(seed=seed), 2)
        cpu.append(time.process_time() - begin)
        print(f"\ngap {seed}, {motion.seconds:.0f} s of motion, {cpu[-1]:.0f} CPU s", flush=True)
        for each in found.found:
            truth = true.get(each.free.name, each.free.nominal)
            error = each.value - truth
            if not each.known:
                print(f"  {each.free.name:30} not identifiable, true {truth:.3f}")
                continue
            ok = abs(error) <= 2.0 * each.spread + 1e-9
            within.setdefault(each.free.name, []).append((ok, abs(error)))
            told = f"{each.value:.3f} ± {each.spread:.3f}, true {truth:.3f}"
            print(f"  {each.free.name:30} {told}{'' if ok else '  OUTSIDE'}", flush=True)
    print("\n| parameter | identified | within two spreads | median error |")
    print("| --- | --- | --- | --- |")
    for name, cases in within.items():
        inside = sum(ok for ok, _ in cases)
        median = np.median([error for _, error in cases])
        print(f"| {name} | {len(cases)} of {count} | {inside} of {len(cases)} | {median:.3g} |")
    print(f"CPU seconds: {np.mean(cpu):.0f} on average, at most {max(cpu):.0f}")


def speed(seconds: float) -> None:
    """Identify what the demo searches for, of a twin of a random gap, and print what it took."""
    gap, _ = random_gap(np.random.default_rng(0))
    motion = recorded(TASK, gap, episodes=round(seconds / 12.5), seed=0)
    begin, cpu = time.monotonic(), time.process_time()
    found = identify(motion, PARAMETERS, (), "known", None, SEARCH)
    wall, cpu = time.monotonic() - begin, time.process_time() - cpu
    print(f"{motion.seconds:.0f} s of motion: {wall:.0f} s, {cpu:.0f} CPU s, {found.steps:,} steps")


def folds(folder: Path, words: tuple[str, ...]) -> None:
    """Identify a robot from CSV files, and print errors of whole motions that were left out."""
    task, paths = registered(TASK).make(), sorted(folder.glob("*.csv"))
    rows = []
    for fold in range(FOLDS):
        fitted = from_csv([p for i, p in enumerate(paths) if i % FOLDS != fold], task)
        left_out = from_csv(paths[fold::FOLDS], task)
        begin = time.process_time()
        found = identify(fitted, words, (), "known", None, SearchSettings(seed=fold), 2)
        before, after = _errors(left_out, found)
        rows.append((before, after))
        numbers = ", ".join(f"{f.free.name} {f.value:.4g} ± {f.spread:.2g}" for f in found.found)
        print(f"fold {fold}: {numbers}; {time.process_time() - begin:.0f} CPU s", flush=True)
    print("\n| signal | nominal | identified |\n| --- | --- | --- |")
    for name in rows[0][0]:
        nominal, identified = (
            np.sqrt(np.mean(np.concatenate([row[side][name] ** 2 for row in rows])))
            for side in (0, 1)
        )
        print(f"| {name} | {nominal:.4f} | {identified:.4f} |")


def _errors(motion: Recorded, found: Identified) -> tuple[dict[str, np.ndarray], ...]:
    """Return the errors at the ends of motions, with nominal and with identified parameters."""
    names = found.held_out.names
    comparison = Comparison(
        motion.task, pieces(motion.tracks, found.held_out.period_s, None), names
    )
    free = [each.free for each in found.found]
    judge = Judge(comparison, free, found.pose, 2)
    places = [
        np.array([f.place(f.nominal) for f in free]),
        np.array([e.free.place(e.value if e.known else e.free.nominal) for e in found.found]),
    ]
    return tuple(comparison.predictions(judge.judged(at)[1], float("inf")) for at in places)


if __name__ == "__main__":
    if sys.argv[1:2] == ["csv"]:
        folds(Path(sys.argv[2]), tuple(sys.argv[3:]))
    elif sys.argv[1:2] == ["speed"]:
        speed(float(sys.argv[2]) if sys.argv[2:] else 300.0)
    else:
        given = [float(word) for word in sys.argv[2:]]
        gaps(int(given[0]) if given else 12, given[1] if given[1:] else 300.0)
