"""Does training on randomised robots help on robots that the simulator got wrong?

Trains DriveCircle with and without `config/randomise_drive.yaml`, over seeds, and runs each
policy, its actions sampled, on three robots: the nominal one; one as in `config/gap_demo.yaml`
as far as a batch can be so (mass, friction, gain, delay, noise); and the twin with that gap
itself, whose odometry, wheels and pose are its own. Nothing stops an episode, so that costs are
whole. Means over episodes; prints a row per policy.

    python -m benchmarks.randomisation [--seeds 3] [--iterations 65] [--episodes 100]
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import torch

from holdfast.observer import Observer
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.ship.evaluate import evaluate
from holdfast.schema import build, to_plain
from holdfast.signals import APPLIED_ACTION, EPISODE_LEFT
from holdfast.sim.parameters.catalogue import Parameters, load, load_gap
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth

CONFIG = Path(__file__).resolve().parent.parent / "config"
RANDOMISED = load(CONFIG / "randomise_drive.yaml")
GAP = load_gap(CONFIG / "gap_demo.yaml")
LIKE_GAP = build(
    Parameters,
    {
        "mass": 1.3,
        "friction": 0.5,
        "gain": {"all": 1.125, "each": [0.95, 1.0]},
        "delay": 3,
        "noise": to_plain(RANDOMISED.noise),
    },
)


def simulated(learner: Learner, robot: Parameters | None, episodes: int) -> tuple[float, float]:
    """Return the mean return and cost of episodes on copies of a robot."""
    settings = dataclasses.replace(learner.settings, randomise=robot)
    found = evaluate(learner.networks, settings, episodes, seed=1000)
    return float(found.returns.mean()), float(found.cost_returns.mean())


@torch.no_grad()
def on_the_twin(learner: Learner, episodes: int) -> tuple[float, float]:
    """Return the same of the twin with the demo's gap, in its own account."""
    task = learner.settings.task.make()
    contract, observe, books = task.contract, Observer(task.contract), io.StringIO()
    board = TwinBoard(task, GAP, 1000, True, Truth(task, 1000, books))
    networks, rng = learner.networks, np.random.default_rng(1000)
    std = networks.policy.log_std.exp().numpy()
    for _ in range(episodes):
        board.replace()
        applied = np.zeros(contract.action_size)
        for k in range(contract.episode_steps):
            signals = {
                **board.measured_signals(),
                APPLIED_ACTION: contract.normalised(applied),
                EPISODE_LEFT: np.array([1.0 - k / contract.episode_steps]),
            }
            seen = torch.from_numpy(observe(signals)[None].astype(np.float32))
            mean = networks.policy(networks.normaliser(seen))[0].numpy()
            u = mean + std * rng.standard_normal(len(mean))
            wanted = contract.action_center + contract.action_half_range * u
            applied = contract.admissible(applied, wanted)
            board.actuate(tuple(applied.tolist()))
            board.advance()
        board.end_episode()
    lines = [json.loads(line) for line in books.getvalue().splitlines()]
    (cost,) = (cost.name for cost in contract.costs)
    returns = [line["reward_sum"] for line in lines]
    return float(np.mean(returns)), float(np.mean([line["cost_sum"][cost] for line in lines]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=65)
    parser.add_argument("--episodes", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| trained on | seed | nominal: return | cost | like the gap: return | cost | "
          "twin: return | cost |\n| --- | --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for seed in range(arguments.seeds):
        for name, robots in (("the nominal robot", None), ("randomised robots", RANDOMISED)):
            learner = Learner(TrainSettings(seed=seed, randomise=robots))
            for _ in range(arguments.iterations):
                learner.iterate()
            cells = [
                *simulated(learner, None, arguments.episodes),
                *simulated(learner, LIKE_GAP, arguments.episodes),
                *on_the_twin(learner, arguments.episodes),
            ]
            learner.batch.close()
            row = " | ".join(f"{value:.1f}" for value in cells)
            print(f"| {name} | {seed} | {row} |", flush=True)


if __name__ == "__main__":
    main()
