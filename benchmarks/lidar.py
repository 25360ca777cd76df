"""A lidar for every copy: computed for all at once, or MuJoCo's rangefinders within the rollout?

CPU time per copy and control period, on one thread: of `holdfast.sim.tasks.sensors.scan` for eight
posts, and of what rangefinder sensors on the drive robot add to its physics among the same posts.
Rangefinders are evaluated at each of the period's five physics steps.

    python -m benchmarks.lidar
"""

from __future__ import annotations

import time
from collections.abc import Callable

import mujoco
import numpy as np
from mujoco import rollout

from holdfast.sim.robots.drive import Drive
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.places import Grid
from holdfast.sim.tasks.sensors import SCAN_SECTORS, scan, seen_from

COPIES, POSTS, RADIUS_M, RANGE_M = 256, 8, 0.1, 3.0
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def cpu_us(run: Callable[[], object], rounds: int = 7) -> float:
    """Return the least CPU time of a run, µs per copy."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1e6 * min(times) / COPIES


def rollout_with(posts: np.ndarray, rays: int) -> Callable[[], object]:
    """Return a period's rollout of the drive robot among posts, with so many rangefinders."""
    robot = Drive()
    spec = mujoco.MjSpec.from_file(str(robot.model_file))
    for x, y in posts if rays else ():
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[RADIUS_M, 0.5, 0.0],
            pos=[x, y, 0.5],
            contype=0,
            conaffinity=0,
        )
    base = spec.body("base")
    for i in range(rays):
        angle = 2.0 * np.pi * i / rays
        site = base.add_site(
            name=f"ray{i}", pos=[0, 0, 0.2], zaxis=[np.cos(angle), np.sin(angle), 0.0]
        )
        spec.add_sensor(
            type=mujoco.mjtSensor.mjSENS_RANGEFINDER,
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname=site.name,
            cutoff=RANGE_M,
            intprm=[1, 0, 0],  # the distance
        )
    model = spec.compile()
    steps = physics_steps(model, robot.period_s)
    qpos, qvel = robot.start(np.random.default_rng(0), COPIES, 0.0)
    states = np.zeros((COPIES, mujoco.mj_stateSize(model, FULL)))
    states[:, 1 : 1 + model.nq + model.nv] = np.concatenate((qpos, qvel), axis=1)
    control = np.zeros((COPIES, steps, model.nu))
    data, pool = [mujoco.MjData(model)], rollout.Rollout(nthread=0)
    return lambda: pool.rollout([model] * COPIES, data, states, control)


def main() -> None:
    rng = np.random.default_rng(0)
    posts = Grid(columns=7, spacing_m=0.8, jitter_m=0.15).scatter(rng, COPIES, POSTS)
    position, heading = rng.uniform(-2.0, 2.0, (COPIES, 2)), rng.uniform(-3.0, 3.0, COPIES)
    computed = cpu_us(lambda: scan(*seen_from(position, heading, posts), RADIUS_M, RANGE_M))
    alone = cpu_us(rollout_with(posts[0], 0))
    print("| lidar | µs per copy and period |\n| --- | --- |")
    print(f"| the robot's physics, without any | {alone:.1f} |")
    print(f"| computed for all copies, the exact minimum of each sector | {computed:.1f} |")
    for per_sector in (1, 5):
        rays = per_sector * SCAN_SECTORS
        more = cpu_us(rollout_with(posts[0], rays)) - alone
        print(f"| {rays} rangefinders, {per_sector} a sector | {more:.1f} |")


if __name__ == "__main__":
    main()
