"""Gather: collect apples, avoid bombs (Achiam et al. 2017, section 10.3.1; Duan et al. 2016)."""

from __future__ import annotations

import numpy as np

from holdfast.contract import Cost, DeclaredSignal, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.robots.robot import RobotModel
from holdfast.sim.tasks.places import Grid
from holdfast.sim.tasks.sensors import SCAN_SECTORS, proximity, scan, seen_from
from holdfast.sim.tasks.task import Task, World, contract_for

APPLE_REWARD = 10.0
AWAY = 1e6
"""Position of things that were taken, m, beyond the range of all sensors."""


class Gather(Task):
    """Rewards each apple, and costs 1 for a step in which a bomb is taken.

    Sensors show apples as proximity in sectors. Bombs are shown in the same way, or are posts that
    a lidar scans.

    Args:
        task: the task's id.
        robot: the robot that gathers; it starts in the grid's middle.
        apples, bombs: numbers of apples and bombs.
        grid: places of apples and bombs.
        taken_within_m: distance from the robot's position at which a thing is taken.
        sectors, range_m: number of sectors and range of the sensors.
        post_radius_m: radius of bombs that are posts; None: bombs are shown like apples.
        episode_steps: control periods of an episode.
        limit, episode_cap: d, and the most that an episode may cost, in steps with bombs taken.
        gamma, lam: the cost's discount and GAE λ.
        fall_reward: reward of the step in which the robot falls, which ends the episode.
    """

    def __init__(
        self,
        task: str,
        robot: RobotModel,
        *,
        apples: int,
        bombs: int,
        grid: Grid,
        taken_within_m: float,
        sectors: int,
        range_m: float,
        post_radius_m: float | None = None,
        episode_steps: int,
        limit: float,
        episode_cap: float,
        gamma: float,
        lam: float,
        fall_reward: float = 0.0,
    ) -> None:
        self.robot = robot
        self._apples, self._bombs, self._grid = apples, bombs, grid
        self._taken_within_m, self._sectors, self._range_m = taken_within_m, sectors, range_m
        self._post_radius_m, self._fall_reward = post_radius_m, fall_reward
        lidar: tuple[DeclaredSignal, ...]
        if post_radius_m is None:
            bomb_sensor = ObservationChannel("bombs", sectors, "1", "bomb_proximity")
            lidar = ()
        else:
            bomb_sensor = ObservationChannel("scan", SCAN_SECTORS, "m", "scan")
            self.lidar_range_m = range_m
            lidar = (DeclaredSignal("scan", SCAN_SECTORS, "m", "base", low=0.0, high=range_m),)
        cost = Cost("bombs_taken", "bombs_taken > 0", limit, episode_cap, gamma, lam)
        apple_sensor = ObservationChannel("apples", sectors, "1", "apple_proximity")
        observation = (*robot.pose, *robot.motion, apple_sensor, bomb_sensor)
        can_fall = type(robot).fallen is not RobotModel.fallen  # which no expression says
        self.contract = contract_for(
            task,
            robot,
            observation,
            episode_steps,
            cost,
            signals=lidar,
            reward=None if can_fall else f"{APPLE_REWARD} * apples_taken",
        )

    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Draw start states in the middle, with apples and bombs around."""
        qpos, qvel = self.robot.start(rng, n, 0.0)
        places = self._grid.scatter(rng, n, self._apples + self._bombs)
        world = {
            "apples": places[:, : self._apples],
            "bombs": places[:, self._apples :],
            "taken": np.zeros((n, 2)),
        }
        return qpos, qvel, world

    def advance(self, body: Signals, world: World) -> None:
        """Take apples and bombs within reach, and count them."""
        for i, kind in enumerate(("apples", "bombs")):
            things = world[kind]
            off = things - body["position"][:, None]
            near = np.hypot(off[..., 0], off[..., 1]) < self._taken_within_m
            world["taken"][:, i] = near.sum(axis=1)
            things[near] = AWAY

    def surroundings(self, body: Signals, world: World) -> dict[str, Array]:
        """Return the numbers of things just taken, and the sensors' readings."""
        heading = self.robot.heading(body)
        apples = seen_from(body["position"], heading, world["apples"])
        seen = {"apple_proximity": proximity(*apples, self._sectors, self._range_m)}
        if self._post_radius_m is None:
            bombs = seen_from(body["position"], heading, world["bombs"])
            seen["bomb_proximity"] = proximity(*bombs, self._sectors, self._range_m)
        else:
            seen["scan"] = self.beams(body, world, SCAN_SECTORS)
        taken = world["taken"].copy()
        return {**seen, "apples_taken": taken[:, 0:1], "bombs_taken": taken[:, 1:2]}

    def beams(self, body: Signals, world: World, count: int) -> Array:
        """Return a lidar's ranges to bombs that are posts."""
        if self._post_radius_m is None:
            return super().beams(body, world, count)
        bombs = seen_from(body["position"], self.robot.heading(body), world["bombs"])
        return scan(*bombs, self._post_radius_m, self._range_m, count)

    def reward(self, signals: Signals) -> Array:
        """Return the reward of the apples just taken, or `fall_reward` in a fall."""
        apples = APPLE_REWARD * signals["apples_taken"][..., 0]
        return np.where(self.robot.fallen(signals), self._fall_reward, apples)
