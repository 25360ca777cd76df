"""Goal: drive from goal to goal between posts that a lidar scans."""

from __future__ import annotations

import numpy as np

from holdfast.contract import Cost, DeclaredSignal, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.robots.robot import RobotModel
from holdfast.sim.tasks.places import Grid
from holdfast.sim.tasks.sensors import SCAN_SECTORS, scan, seen_from
from holdfast.sim.tasks.task import Task, World, contract_for
from holdfast.sim.tasks.velocity import in_base

GOALS = 20
"""Number of goals drawn at an episode's start; after the last the first follows again. They are
drawn ahead, so that a restored copy meets the same goals."""


class Goal(Task):
    """Rewards each metre towards the goal and each goal reached; costs 1 per step near a post.

    Posts have no body in the physics: a robot that drives into a post is billed, and passes
    through.

    Args:
        task: the task's id.
        robot: the robot that drives; it starts in the grid's middle.
        grid: places of posts and goals.
        posts, post_radius_m: number and radius of the posts.
        range_m: range of the lidar.
        reached_within_m: distance from the robot's position at which a goal is reached.
        clearance_m: least distance in the scan without a cost.
        episode_steps: control periods of an episode.
        limit: d, in steps too near a post per episode.
        gamma, lam: the cost's discount and GAE λ.
    """

    lidar_range_m: float

    def __init__(
        self,
        task: str,
        robot: RobotModel,
        *,
        grid: Grid,
        posts: int,
        post_radius_m: float,
        range_m: float,
        reached_within_m: float,
        clearance_m: float,
        episode_steps: int,
        limit: float,
        gamma: float,
        lam: float,
    ) -> None:
        self.robot = robot
        self._grid, self._posts, self._post_radius_m = grid, posts, post_radius_m
        self.lidar_range_m, self._reached_within_m = range_m, reached_within_m
        cost = Cost(
            name="too_near",
            expression=f"scan.min < {clearance_m}",
            limit=limit,
            episode_cap=3.0 * limit,
            gamma=gamma,
            lam=lam,
        )
        observation = (
            *robot.motion,
            ObservationChannel("goal", 2, "m", "goal"),
            ObservationChannel("scan", SCAN_SECTORS, "m", "scan"),
        )
        lidar = DeclaredSignal("scan", SCAN_SECTORS, "m", "base", low=0.0, high=range_m)
        self.contract = contract_for(
            task,
            robot,
            observation,
            episode_steps,
            cost,
            signals=(lidar,),
            reward=self._reward_expression(),
        )

    def _reward_expression(self) -> str | None:
        velocity = in_base(self.robot)
        if velocity is None:
            return None
        ahead, aside = velocity
        closing = f"{ahead} * goal.x" + (f" + {aside} * goal.y" if aside else "")
        distance = "max(hypot(goal.x, goal.y), 1e-9)"
        return f"{self.robot.period_s} * ({closing}) / {distance} + goals_reached"

    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Draw start states in the middle, at rest, with posts and goals around."""
        qpos, qvel = self.robot.start(rng, n, 0.0)
        places = self._grid.scatter(rng, n, self._posts + GOALS)
        world = {
            "posts": places[:, : self._posts],
            "goals": places[:, self._posts :],
            "next": np.zeros(n, dtype=np.int64),
            "reached": np.zeros((n, 1)),
        }
        return qpos, qvel, world

    def advance(self, body: Signals, world: World) -> None:
        """Move on to the next goal where a goal is reached."""
        off = _current(world) - body["position"]
        reached = np.hypot(off[:, 0], off[:, 1]) < self._reached_within_m
        world["next"][:] = (world["next"] + reached) % GOALS
        world["reached"][:, 0] = reached

    def surroundings(self, body: Signals, world: World) -> dict[str, Array]:
        """Return the goal, the scan, and whether a goal was just reached."""
        position, heading = body["position"], self.robot.heading(body)
        goal = seen_from(position, heading, _current(world)[:, None])
        return {
            "goal": np.concatenate(goal, axis=-1),
            "scan": self.beams(body, world, SCAN_SECTORS),
            "goals_reached": world["reached"].copy(),
        }

    def beams(self, body: Signals, world: World, count: int) -> Array:
        """Return a lidar's ranges to the posts."""
        posts = seen_from(body["position"], self.robot.heading(body), world["posts"])
        return scan(*posts, self._post_radius_m, self.lidar_range_m, count)

    def reward(self, signals: Signals) -> Array:
        """Return the metres towards the goal in a period at this velocity, plus 1 per goal."""
        goal, velocity = signals["goal"], self.robot.velocity(signals)
        heading = self.robot.heading(signals)
        cos, sin = np.cos(heading), np.sin(heading)
        ahead = cos * velocity[..., 0] + sin * velocity[..., 1]
        aside = cos * velocity[..., 1] - sin * velocity[..., 0]
        distance = np.maximum(np.hypot(goal[..., 0], goal[..., 1]), 1e-9)
        closing = (ahead * goal[..., 0] + aside * goal[..., 1]) / distance
        return self.contract.period_s * closing + signals["goals_reached"][..., 0]


def _current(world: World) -> Array:
    """Return each copy's goal (N, 2)."""
    goal: Array = world["goals"][np.arange(len(world["next"])), world["next"]]
    return goal
