"""How long a cost takes as an expression, against the function written by hand.

    python benchmarks/expressions.py [--rounds N]

Each cost below, of one robot's numbers as the monitor bills a step, and of
the arrays of so many robots as the simulator does. Both are evaluated in turn, a short while each,
and the least time of all rounds is shown: on a shared machine the ratio says more than the times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from holdfast.expressions import CostExpression, catalogue

Values = Mapping[str, Sequence[Any]]


def corridor(values: Values, *, x_limit_m: float) -> Any:
    x, _ = values["position"]
    return abs(x) > x_limit_m


def clearance(values: Values, *, clearance_m: float) -> Any:
    return ~(np.asarray(values["scan"]).min(axis=0) >= clearance_m)


def speeding(values: Values, *, speed_m_s: float) -> Any:
    (speed,) = values["forward_speed"]
    return abs(speed) > speed_m_s


def tilting(values: Values, *, tilt_rad: float) -> Any:
    roll, pitch = values["tilt"]
    return (abs(roll) > tilt_rad) | (abs(pitch) > tilt_rad)


COSTS: tuple[tuple[Callable[..., Any], dict[str, float], str], ...] = (
    (corridor, {"x_limit_m": 0.9}, "abs(position.x) > 0.9"),
    (clearance, {"clearance_m": 0.5}, "scan.min < 0.5"),
    (speeding, {"speed_m_s": 0.4}, "abs(forward_speed) > 0.4"),
    (tilting, {"tilt_rad": 0.2}, "(abs(tilt.roll) > 0.2) or (abs(tilt.pitch) > 0.2)"),
)
ROBOTS = (1, 64, 1024, 4096)
SIGNALS = catalogue({})
WHILE_S = 0.002
"""How long the one is measured before it is the other's turn."""


def seconds(call: Callable[[], object], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begun) / count


def compare(name: str, hand: Callable[[], object], ours: Callable[[], object], rounds: int) -> None:
    """Print the least time of each, and their ratio."""
    count = max(1, round(WHILE_S / seconds(hand, 20)))
    times = np.array([(seconds(hand, count), seconds(ours, count)) for _ in range(rounds)])
    least = times.min(axis=0) * 1e6
    print(
        f"{name:<26} by hand {least[0]:8.2f} us   expression {least[1]:8.2f} us   "
        f"ratio {least[1] / least[0]:.2f}",
        flush=True,
    )


def step_by_hand(
    evaluate: Callable[..., Any], parameters: dict[str, float], values: dict[str, list[float]]
) -> Callable[[], float]:
    return lambda: float(evaluate(values, **parameters))


def arrays_by_hand(
    function: Callable[..., Any], parameters: dict[str, float], arrays: dict[str, np.ndarray]
) -> Callable[[], np.ndarray]:
    def evaluate() -> np.ndarray:
        values = {name: np.moveaxis(array, -1, 0) for name, array in arrays.items()}
        return np.asarray(function(values, **parameters), dtype=np.float64)

    return evaluate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300, help="turns of each (300)")
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    for function, parameters, text in COSTS:
        name, cost = function.__name__, CostExpression(text, SIGNALS)
        arrays = {s: rng.uniform(-1.0, 1.0, (max(ROBOTS), SIGNALS[s].size)) for s in cost.signals}
        values = {s: array[0].tolist() for s, array in arrays.items()}
        hand = step_by_hand(function, parameters, values)
        assert hand() == cost.step(values)
        compare(f"{name}, one step", hand, lambda c=cost, v=values: c.step(v), rounds)
        for robots in ROBOTS:
            some = {s: array[:robots] for s, array in arrays.items()}
            many = arrays_by_hand(function, parameters, some)
            np.testing.assert_array_equal(many(), cost(some))
            compare(f"{name}, {robots} robots", many, lambda c=cost, a=some: c(a), rounds)


if __name__ == "__main__":
    main()
