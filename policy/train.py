"""`holdfast train`: learn a policy under its cost limit in simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from holdfast.errors import TrainingError
from holdfast.policy.learner import Learner, TrainSettings, append_jsonl, last_costs
from holdfast.sim.check import check

CHECKPOINT = "checkpoint.safetensors"
PROGRESS = "progress.jsonl"
SCALARS = ("return", "cost", "kl", "lam", "nu", "shortfall", "reward_change", "cost_change")
"""What TensorBoard shows of each iteration; progress.jsonl has all of it."""


def command(
    settings: TrainSettings,
    out: Path = Path("runs/train"),
    resume: bool = False,
    checkpoint_every: int = 10,
) -> None:
    """Learn a policy under its cost limit in simulation.

    Args:
        settings: what and how to train.
        out: folder for checkpoint.safetensors, progress.jsonl and TensorBoard's event files.
        resume: go on from the checkpoint in `out`, bit for bit; of the settings, only
            `iterations` may then differ.
        checkpoint_every: iterations between checkpoints; one is always written at the end.
    """
    console = Console(soft_wrap=True, highlight=False)
    learner, records = train(settings, out, resume, checkpoint_every, console)
    if not records:
        console.print(f"{out / CHECKPOINT}: already at iteration {learner.iteration}")
        return
    reward, cost = last_costs(records)
    limit = learner.contract.costs[0].limit
    count = min(20, len(records))
    console.print(
        f"last {count} iterations: return {reward:.1f}, cost {cost:.2f} per episode "
        f"(limit {limit:g}); {out / CHECKPOINT}"
    )
    if settings.algorithm == "cpo" and cost > 1.1 * limit:
        console.print(f"[yellow]the limit is not met: cost {cost:.2f} over d = {limit:g}[/yellow]")


def train(
    settings: TrainSettings, out: Path, resume: bool, checkpoint_every: int, console: Console
) -> tuple[Learner, list[dict[str, Any]]]:
    """Train to `settings.iterations`; return the learner and this call's iteration records.

    Raises:
        TrainingError: `out` holds a run already, or what it holds cannot be resumed.
    """
    torch.set_num_threads(1)  # on networks of this size more threads are slower
    path = out / CHECKPOINT
    learner = _start(settings, path, resume)
    out.mkdir(parents=True, exist_ok=True)
    _forget_after(out / PROGRESS, learner.iteration)
    records: list[dict[str, Any]] = []
    with (
        SummaryWriter(out, purge_step=learner.iteration + 1) as board,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
        ) as progress,
    ):
        bar = progress.add_task(
            learner.contract.task, total=settings.iterations, completed=learner.iteration, status=""
        )
        while learner.iteration < settings.iterations:
            record = learner.iterate()
            records.append(record)
            append_jsonl(out / PROGRESS, record)
            for name in SCALARS:
                board.add_scalar(name, record[name], learner.iteration)
            status = f"return {record['return']:.1f}  cost {record['cost']:.1f}  {record['case']}"
            progress.update(bar, completed=learner.iteration, status=status)
            if learner.iteration % checkpoint_every == 0:
                learner.save(path)
    learner.save(path)
    return learner, records


def _start(settings: TrainSettings, path: Path, resume: bool) -> Learner:
    if not resume:
        if path.exists():
            raise TrainingError(f"{path}: exists; give --resume to go on from it, or another --out")
        check(settings.task)
        return Learner(settings)
    learner = Learner.load(path)
    held = learner.settings
    for name in vars(settings):
        if name != "iterations" and getattr(settings, name) != getattr(held, name):
            raise TrainingError(
                f"{path}: was trained with {name} = {getattr(held, name)}, "
                f"not {getattr(settings, name)}; leave it as it was to resume"
            )
    return learner


def _forget_after(path: Path, iteration: int) -> None:
    """Drop the lines of iterations that ran after the checkpoint: they are run again."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(
            "".join(line for line in lines if json.loads(line)["iteration"] <= iteration)
        )
