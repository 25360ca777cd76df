"""Settings of `holdfast experiment`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from holdfast.errors import ConfigError
from holdfast.policy.learn.pessimism import LARGEST
from holdfast.policy.learn.settings import TASK_ID
from holdfast.schema import POSITIVE, SEED, Range, check
from holdfast.sim.registry import is_program, registered
from holdfast.sim.task_spec import TaskSpec

FORMAT = 1
"""Format of the experiment's files."""


@dataclass(frozen=True)
class ExperimentSettings:
    """Settings of the experiment.

    Attributes:
        out: folder of the experiment. What the folder holds already is not made again.
        task: the task, also as FILE.py:NAME; for another robot than `drive` give its --gaps and
            --randomise too.
        config: the robot's configuration file. Default: config/drive_unmeasured.yaml, on DriveGoal
            config/drive_goal_unmeasured.yaml, and config/<robot>.yaml for another robot.
        gaps: YAML files with ranges, from which the robots are drawn; the files take turns.
            Default: config/gaps_drive.yaml and config/gaps_drive_beyond.yaml, on DriveGoal
            config/gaps_goal.yaml and config/gaps_goal_beyond.yaml.
        randomise: YAML file with the ranges of the randomised policy. Default:
            config/randomise_demo.yaml, on DriveGoal config/randomise_goal.yaml.
        pessimism: factor of the pessimistic policy, which is trained in the ranges of the
            randomised one.
        parameters: what identification searches for, as in `holdfast identify`. Default: of
            robot `drive` ten numbers, and the slopes of the floor where it measures its heading;
            all that apply to another robot.
        count: number of robots.
        seed: seed of trainings, twins, sampled actions, and of the robots that are drawn.
        least: least mean cost of the nominal policy on a robot, as a share of its limit d. Robots
            on which it costs less are not part of the experiment.
        iterations: training iterations of the first policies. Default: 65; 200 on tasks of robot
            `drive` without a measured heading, such as DriveGoal.
        episodes: logged episodes from which a robot is identified.
        allowance: most episodes of a canary's trial.
        retraining: training iterations in the identified simulator; where those end badly, training
            begins again with random weights, as in `holdfast improve`.
        yardstick: most training iterations on the true robot, for the policy that the others are
            compared with.
    """

    out: Path = Path("runs/sim2real")
    task: Annotated[TaskSpec, TASK_ID] = field(
        default_factory=lambda: registered("holdfast/DriveCircle-v0")
    )
    config: Path | None = None
    gaps: tuple[Path, ...] = ()
    randomise: Path | None = None
    pessimism: Annotated[float, Range(0.0, LARGEST, above=True)] = 5.0
    parameters: tuple[str, ...] = ()
    count: Annotated[int, Range(1)] = 20
    seed: Annotated[int, SEED] = 0
    least: Annotated[float, POSITIVE] = 1.5
    iterations: Annotated[int, Range(1)] | None = None
    episodes: Annotated[int, Range(2)] = 40
    allowance: Annotated[int, Range(1)] = 60
    retraining: Annotated[int, Range(1)] = 30
    yardstick: Annotated[int, Range(1)] = 300

    def __post_init__(self) -> None:
        check(self, ConfigError)

    @property
    def own_task(self) -> TaskSpec | None:
        """The task, if it is no part of Holdfast: code that a file names is not run."""
        return self.task if is_program(self.task.id) else None
