"""Pictures of trained ants and humanoids: curves of training, paths of episodes, and the gait.

Runs lie in RUNS/TASK/NAME/SEED, as `holdfast train --out` was told. For each task there, writes
their curves (TASK-curves.svg), paths of each policy (TASK-paths.png) and the first seconds of its
median episode (TASK-NAME-SEED.gif), and prints a table of its episodes. Needs OpenGL, without a
screen.

    MUJOCO_GL=egl python -m benchmarks.legged --runs runs/legged --out docs/measured/results
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import mujoco
import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from holdfast import files
from holdfast.policy.figures import Curves, comparison
from holdfast.policy.learn.settings import settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.reproduce import records
from holdfast.policy.train import CHECKPOINT
from holdfast.signals import Array
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.tasks.circle import Circle
from holdfast.sim.tasks.task import Task

EPISODES, SEED = 50, 12345
SHOWN = 12
"""Episodes whose paths are drawn."""
EVERY, FRAMES = 2, 75
"""The animation shows each `EVERY`th control period, at most so many."""
SIZE, COLOURS = (240, 200), 32
"""Pixels (width, height) and colours of the animation."""


@dataclass(frozen=True)
class Episode:
    """An episode of a policy.

    Attributes:
        qpos: (steps, nq), the states in which the policy acted.
        reward: the return.
        costs: (steps,), the cost of each action.
    """

    qpos: Array
    reward: float
    costs: Array

    @property
    def steps(self) -> int:
        return len(self.costs)

    @property
    def laps(self) -> float:
        """Turns about the origin, counter-clockwise, while the robot is at least 2 m from it."""
        x, y = self.qpos[:, 0], self.qpos[:, 1]
        turned = np.diff(np.unwrap(np.arctan2(y, x)))
        return float(turned[np.hypot(x, y)[:-1] > 2.0].sum() / (2.0 * np.pi))

    @property
    def overturned(self) -> bool:
        """Whether the torso is upside down at the end, which ends no episode."""
        x, y = self.qpos[-1, 4:6]
        return bool(1.0 - 2.0 * (x * x + y * y) < 0.0)

    @property
    def path_m(self) -> float:
        """Length of the path."""
        return float(np.hypot(*np.diff(self.qpos[:, :2], axis=0).T).sum())


def play(path: Path) -> tuple[Task, list[Episode]]:
    """Run a checkpoint's policy, with sampled actions, for one episode in each of the copies."""
    networks, data = checkpoint.load_networks(path)
    contract = networks.contract
    task = settings_of(path, data).task.make()
    task.contract = contract
    batch = MujocoBatch(task, EPISODES, SEED)
    generator = torch.Generator().manual_seed(SEED)
    mean, std = networks.policy.frozen(), torch.exp(networks.policy.log_std).detach()
    observation = batch.reset()
    qpos, rewards, costs = [batch.qpos.copy()], [], []
    length = np.full(EPISODES, contract.episode_steps)
    for t in range(contract.episode_steps):
        x = networks.normaliser(torch.from_numpy(observation).float())
        u = mean(x) + std * torch.randn((EPISODES, contract.action_size), generator=generator)
        step = batch.step(contract.action_center + contract.action_half_range * u.numpy())
        length[step.terminated & (length > t)] = t + 1
        observation = step.observation
        qpos.append(batch.qpos.copy())
        rewards.append(step.reward)
        costs.append(step.costs[:, 0])
    batch.close()
    states, gains, billed = np.stack(qpos), np.stack(rewards), np.stack(costs)
    return task, [
        Episode(states[:n, i], float(gains[:n, i].sum()), billed[:n, i])
        for i, n in enumerate(length.tolist())
    ]


def row(name: str, task: Task, episodes: Sequence[Episode]) -> str:
    """Return a table's row: means over the episodes."""
    means = [
        np.mean(values)
        for values in (
            [episode.reward for episode in episodes],
            [episode.costs.sum() for episode in episodes],
            [episode.steps for episode in episodes],
            [episode.steps == task.contract.episode_steps for episode in episodes],
            [episode.overturned for episode in episodes],
            [episode.path_m for episode in episodes],
            [episode.laps for episode in episodes],
        )
    ]
    reward, cost, steps, whole, overturned, path, laps = means
    return (
        f"| {name} | {reward:.3g} | {cost:.3g} | {steps:.0f} | {whole:.0%} | {overturned:.0%} | "
        f"{path:.1f} | {laps:.2f} |"
    )


def median(episodes: Sequence[Episode]) -> Episode:
    """Return the episode with the median return."""
    return sorted(episodes, key=lambda episode: episode.reward)[len(episodes) // 2]


def paths(played: dict[str, tuple[Task, list[Episode]]]) -> Figure:
    """Draw the paths of some episodes of each policy, red where a cost was billed."""
    figure = Figure(figsize=(4.2 * len(played), 4.4), layout="constrained")
    for axes, (name, (task, episodes)) in zip(
        np.atleast_1d(figure.subplots(1, len(played), sharex=True, sharey=True)),
        played.items(),
        strict=True,
    ):
        if isinstance(task, Circle):
            angle = np.linspace(0.0, 2.0 * np.pi, 200)
            x, y = task.radius_m * np.cos(angle), task.radius_m * np.sin(angle)
            axes.plot(x, y, color="#9ca3af", linewidth=1, linestyle=":")
            for edge in edges(task):
                axes.axvline(edge, color="#6ee7b7", linewidth=1)
        for episode in episodes[:SHOWN]:
            at = episode.qpos[:, :2]
            colours = np.where(episode.costs[:-1] > 0.0, "#dc2626", "#1d4ed8")
            pieces = np.stack((at[:-1], at[1:]), axis=1)
            axes.add_collection(LineCollection(list(pieces), colors=colours, linewidths=0.7))
            axes.plot(*at[-1], ".", color="#111827", markersize=4)
        axes.set(title=name, xlabel="x [m]", aspect="equal")
        axes.autoscale_view()
    return figure


def edges(task: Circle) -> tuple[float, float]:
    """Return x of the corridor's two edges, as the cost has it."""
    x = np.linspace(0.0, 20.0, 20_001)
    (cost,) = task.contract.cost_expressions
    billed = cost({"position": np.stack((x, 0.0 * x), axis=-1)}) > 0.0
    edge = float(x[int(billed.argmax())])
    return -edge, edge


def pictures(task: Task, episode: Episode) -> Iterator[Image.Image]:
    """Yield pictures of an episode's first part, from a camera that follows the robot."""
    spec = task.robot.spec()
    spec.compiler.discardvisual = False
    model = spec.compile()
    model.mat_reflectance[:] = 0.0
    data = mujoco.MjData(model)
    view = mujoco.MjvCamera()
    view.type, view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1
    view.distance, view.elevation, view.azimuth = 5.0, -40.0, 60.0
    with mujoco.Renderer(model, SIZE[1], SIZE[0]) as renderer:
        for qpos in episode.qpos[: FRAMES * EVERY : EVERY]:
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, view)
            if isinstance(task, Circle):
                _mark(renderer.scene, task)
            picture: NDArray[np.uint8] = renderer.render()
            yield Image.fromarray(picture)


def _mark(scene: mujoco.MjvScene, task: Circle) -> None:
    """Draw the circle in grey and the corridor's edges in green on the floor."""
    angle = np.linspace(0.0, 2.0 * np.pi, 65)
    circle = task.radius_m * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    lines = [(a, b, (0.9, 0.9, 0.9, 1.0)) for a, b in pairwise(circle)]
    far = 1.5 * task.radius_m
    lines += [(np.array((x, -far)), np.array((x, far)), (0.2, 0.8, 0.5, 1.0)) for x in edges(task)]
    for a, b, colour in lines:
        geom = scene.geoms[scene.ngeom]
        scene.ngeom += 1
        mujoco.mjv_initGeom(
            geom, mujoco.mjtGeom.mjGEOM_CAPSULE, np.zeros(3), np.zeros(3), np.zeros(9),
            np.array(colour, np.float32),
        )  # fmt: skip
        ends = (np.append(a, 0.02), np.append(b, 0.02))
        mujoco.mjv_connector(geom, mujoco.mjtGeom.mjGEOM_CAPSULE, 0.03, *ends)


def animate(task: Task, episode: Episode, out: Path) -> None:
    """Write the gait as a GIF in real time."""
    first, *others = (
        picture.quantize(COLOURS, dither=Image.Dither.NONE) for picture in pictures(task, episode)
    )
    period_ms = 1000.0 * EVERY * task.contract.period_s
    first.save(out, save_all=True, append_images=others, duration=period_ms, loop=0, optimize=True)


def curves(place: Path) -> Curves:
    """Return the curves of one run."""
    run = records(place)
    (cost,) = run[0]["costs"]
    costs = np.array([[record["costs"][cost] for record in run]])
    returns = np.array([[record["return"] for record in run]])
    return Curves(np.array([record["steps"] for record in run]), returns, costs, costs)


def main() -> None:
    """Draw what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/legged"), help="the runs' folder")
    results = Path("docs/measured/results")
    parser.add_argument("--out", type=Path, default=results, help="for the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(given.runs.iterdir()):
        runs = {
            f"{place.parent.name}, seed {place.name}": place for place in sorted(folder.glob("*/*"))
        }
        print(f"\n{folder.name}: {EPISODES} episodes of each policy, seed {SEED}\n")
        print("| policy | return | cost | steps | whole episodes | overturned | path, m | laps |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        played = {}
        for name, place in runs.items():
            task, episodes = played[name] = play(place / CHECKPOINT)
            print(row(name, task, episodes), flush=True)
            gif = given.out / f"{folder.name}-{place.parent.name}-{place.name}.gif"
            animate(task, median(episodes), gif)
        (cost,) = task.contract.costs
        drawn = comparison({name: curves(place) for name, place in runs.items()}, cost)
        files.write(given.out / f"{folder.name}-curves.svg", drawn)
        paths(played).savefig(
            given.out / f"{folder.name}-paths.png", dpi=80, metadata={"Software": None}
        )


if __name__ == "__main__":
    main()
