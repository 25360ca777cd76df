"""`holdfast train`: trains a policy under cost limits in simulation."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from rich.console import Console
from rich.text import Text

from holdfast import files, plain
from holdfast.contract import Contract
from holdfast.errors import FileError, TrainingError
from holdfast.log.format import PROGRESS
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.improve.demonstrations import clone, read
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import (
    Preset,
    TrainSettings,
    contract_of,
    defaults,
    settings_of,
)
from holdfast.policy.models import checkpoint
from holdfast.policy.progress import progress
from holdfast.policy.sampling.shards import ShardedCollector
from holdfast.policy.ship.evaluate import is_met
from holdfast.schema import to_plain
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import resolve

if TYPE_CHECKING:
    from holdfast.policy.learn.cluster import Cluster

CHECKPOINT = "checkpoint.safetensors"
SHARDS = 8
"""Default number of shards with Ray. It is fixed, as results must not depend on the workers."""

LAST = 20
"""Number of last iterations whose mean is compared with the limit at the end of a run."""


def command(
    settings: TrainSettings,
    out: Path = Path("runs/train"),
    resume: bool = False,
    checkpoint_every: int = 10,
    probe: bool = False,
    ray: str = "",
    workers: int = 0,
    demonstrations: tuple[Path, ...] = (),
    start_from: Path | None = None,
) -> None:
    """Train a policy under its cost limits in simulation.

    Args:
        settings: settings of training.
        out: folder for checkpoint.safetensors, progress.jsonl and TensorBoard's event files.
            `holdfast watch OUT` shows the training in the browser while it runs.
        resume: continue from the checkpoint in `out`, bit for bit, with its settings. Only
            `iterations` may be given another value. A task that is no part of Holdfast has to be
            given again with `task`, as code that a file names is not run.
        checkpoint_every: iterations between checkpoints. The last iteration always writes one.
        probe: only measure return and costs of policies: doing nothing, random actions, a policy
            trained for `iterations` without a limit (TRPO), and policies trained as long under
            three limits in between. Writes a table and a picture, and no checkpoint.
        ray: run rollouts on a Ray cluster: "local" starts a cluster on this machine, "auto" finds
            the cluster that runs on this machine, "HOST:PORT" joins another cluster. Ray needs
            `shards`, and changes no result: a run may be resumed with or without Ray.
        workers: number of Ray workers, at most one per shard; 0: one per CPU of the cluster.
        demonstrations: logs of this task, of any behaviour. The policy begins as a clone of the
            logged behaviour, by maximum likelihood. Default: random weights.
        start_from: checkpoint of another run of this task, whose networks and normaliser the
            policy begins with. Limits, discounts and algorithm may differ, but both or neither
            are for a range of limits (--limit-range). Default: random weights.
    """
    if workers < 0:
        raise TrainingError(f"workers should be at least 0, received {workers}")
    if ray and probe:
        raise TrainingError("--probe runs on this machine alone; leave --ray out")
    if workers and not ray:
        raise TrainingError("workers are Ray's; give --ray too")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if demonstrations and start_from:
        raise TrainingError("a policy begins once; give --demonstrations or --start-from, not both")
    if probe:
        if demonstrations or start_from:
            raise TrainingError(
                "a probe begins with random weights; leave --demonstrations and --start-from out"
            )
        if settings.limit_range:
            raise TrainingError("a probe is to choose limits by; leave --limit-range out")
        from holdfast.policy.probe import probe as run_probe  # draws, with slow imports

        run_probe(settings, out, console)
        return
    learner, records = train(
        settings, out, resume, checkpoint_every, console, demonstrations, ray, workers, start_from
    )
    learner.close()
    if not records:
        console.print(f"{out / CHECKPOINT}: already at iteration {learner.iteration}")
        return
    console.print(f"{out / CHECKPOINT}")
    lines = outcome(records, learner.contract, settings.algorithm)
    for line in (*origin(records[0]), *lines, *too_careful(records, learner.contract, settings)):
        console.print(line)


def command_defaults(options: Sequence[str]) -> dict[str, Any]:
    """Return the defaults of `command`'s arguments for the given options.

    The defaults depend on the options preset, task, algorithm, out, resume and ray.

    Raises:
        ConfigError, TrainingError: there is no such task, or no such run to resume.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default="")
    for name in ("preset", "out", "ray", "algorithm"):
        parser.add_argument(f"--{name}", nargs="?", const="")
    parser.add_argument("--task", "--task-file", nargs="?", const="")
    chosen, _ = parser.parse_known_args(options)
    usual, task = TrainSettings(), resolve(chosen.task) if chosen.task else None
    if "--resume" in options and "--help" not in options:
        path = Path(chosen.out or "runs/train") / CHECKPOINT
        if not path.exists():
            raise TrainingError(
                f"{path}: there is no such training; leave --resume out to begin one"
            )
        _, data = checkpoint.load(path)
        return {"settings": settings_of(path, data, task)}
    preset = chosen.preset if chosen.preset in get_args(Preset) else usual.preset
    algorithm = chosen.algorithm if chosen.algorithm in ALGORITHMS else usual.algorithm
    settings = defaults(preset, task or usual.task, algorithm)
    return {"settings": dataclasses.replace(settings, shards=SHARDS) if chosen.ray else settings}


def train(
    settings: TrainSettings,
    out: Path,
    resume: bool,
    checkpoint_every: int,
    console: Console,
    demonstrations: Sequence[Path] = (),
    ray: str = "",
    workers: int = 0,
    start_from: Path | None = None,
    again: str = "--resume",
) -> tuple[Learner, list[dict[str, Any]]]:
    """Train to `settings.iterations`; return the learner and the records of all iterations.

    There are no records if no iteration was left to do.

    Args:
        again: what goes on from the checkpoint of an interrupted training, in the user's words.

    Raises:
        TrainingError: `out` holds a run already, or a run that cannot be resumed.
        ConfigError: there is no such Ray cluster.
        LogError: the demonstrations cannot be learned from.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of the last whole iteration was written.
    """
    try:
        plain.whole_characters(str(out))
    except ValueError as error:  # TensorBoard cannot open such a path
        raise TrainingError(f"out: {error}") from None
    path = out / CHECKPOINT
    learner = _start(settings, path, resume, demonstrations, start_from)
    if ALGORITHMS[settings.algorithm].meets_limit:
        for sentence in learner.contract.idle_limits:
            console.print(f"note: {sentence}")
    going = learner.iteration < settings.iterations
    cluster = spread(learner, ray, workers) if ray and going else None
    out.mkdir(parents=True, exist_ok=True)
    records = _forget_after(out / PROGRESS, learner.iteration)
    if not going:
        return learner, []
    from torch.utils.tensorboard import SummaryWriter  # not for commands that only read a training

    with (
        cluster or contextlib.nullcontext(),
        _interruption() as interrupted,
        SummaryWriter(out, purge_step=learner.iteration + 1) as board,
        progress(
            console,
            f"{learner.contract.task} {settings.algorithm}",
            settings.iterations,
            learner.iteration,
        ) as show,
    ):
        while learner.iteration < settings.iterations and not interrupted.is_set():
            try:
                record = learner.iterate() | {"iterations": settings.iterations}
            except TrainingError as error:
                if learner.iteration:
                    _keep(learner, path, error)  # saves the iterations before
                raise
            records.append(record)
            append_jsonl(out / PROGRESS, record)
            for key, value in _scalars(record):
                board.add_scalar(key, value, learner.iteration)
            workers_now = f"  {cluster.workers} workers" if cluster else ""
            show(learner.iteration, _status(record) + workers_now)
            if learner.iteration % checkpoint_every == 0:
                learner.save(path)
    learner.save(path)
    if learner.iteration < settings.iterations:
        learner.close()
        console.print(f"{path}: iteration {learner.iteration}; {again} goes on from it")
        raise KeyboardInterrupt
    return learner, records


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets; a second one ends as it otherwise does.

    An iteration changes the policy, then the critics: a checkpoint from between would be no state
    that training can go on from bit for bit, so the iteration is finished first.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # others can set no handler
        yield interrupted
        return
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {each: signal.getsignal(each) for each in usual}

    def end(number: int, _: object) -> None:
        interrupted.set()
        signal.signal(number, before[signal.Signals(number)])
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        print(
            f"holdfast: {name}: this iteration ends, and a checkpoint is written; a second {name} "
            "ends at once, without a checkpoint",
            file=sys.stderr,
        )

    for each, handler in usual.items():
        if before[each] is handler:
            signal.signal(each, end)
    try:
        yield interrupted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _keep(learner: Learner, path: Path, stopped: TrainingError) -> None:
    """Write a checkpoint after an error of training; raise both errors if writing fails too."""
    try:
        learner.save(path)
    except (FileError, TrainingError) as error:
        raise TrainingError(f"{stopped}; and what was learned is lost: {error}") from None


def _status(record: Mapping[str, Any]) -> str:
    costs = "  ".join(f"{name} {value:.2f}" for name, value in record["costs"].items())
    speed = f"{record['steps_per_s'] / 1000:.0f}k steps/s"
    return f"return {record['return']:.1f}  {costs}  {record['case']}  {speed}"


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record by name; nested names are joined by a slash."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, value


def outcome(
    records: Sequence[Mapping[str, Any]], contract: Contract, algorithm: str
) -> Iterator[str | Text]:
    """Yield lines with the means of the last iterations, and with each limit that is not met."""
    count = len(_last(records))
    reward, costs = last_means(records)
    those = "last iteration" if count == 1 else f"last {count} iterations"
    yield f"{those}: return {reward:.1f} per episode"
    rows = [(cost.name, costs[cost.name], f"limit d = {cost.limit:g}") for cost in contract.costs]
    met = [is_met(costs[cost.name], cost.limit) for cost in contract.costs]
    if "by_limit" in records[-1]:
        knots = dict.fromkeys(name for record in _last(records) for name in record["by_limit"])
        near = [(name.partition(" at ")[0], *_last_at(records, name)) for name in knots]
        rows = [(name, mean, f"under limits of {limit:g} on average") for name, mean, limit in near]
        met = [is_met(mean, limit) for _, mean, limit in near]
    for (name, mean, limit), kept in zip(rows, met, strict=True):
        text = f"  {name} {mean:.2f} per episode, {limit}"
        if kept:
            yield text
        elif ALGORITHMS[algorithm].meets_limit:
            yield Text(f"{text}: not met", style="yellow")
        else:
            yield f"{text}, which {algorithm} does not look at"
    if not all(met) and ALGORITHMS[algorithm].meets_limit:
        yield (
            "  Train on with --resume and more --iterations, or choose another limit with holdfast "
            "train --probe"
        )


def too_careful(
    records: Sequence[Mapping[str, Any]], contract: Contract, settings: TrainSettings
) -> Iterator[Text]:
    """Yield a warning if pessimism alone cost more than the limits in the last iterations."""
    if not settings.pessimism:
        return
    steps = contract.episode_steps
    tail = [each["disagreement"] * each["episode_steps"] / steps for each in _last(records)]
    share = float(np.mean(tail))
    if (spent := settings.pessimism * share) >= 1.0:
        yield Text(
            f"  warning: what the randomised robots disagree about costs {spent:.3g} times the "
            f"limit d by itself, by the --pessimism {settings.pessimism:g}. A policy that meets "
            f"the limit has to avoid it, as by standing still; a factor below {1.0 / share:.2g} "
            "would leave room for the true cost",
            style="yellow",
        )


def _last_at(records: Sequence[Mapping[str, Any]], knot: str) -> tuple[float, float]:
    """Return mean cost and mean limit of the last iterations near a knot of a range."""
    tail = [each["by_limit"][knot] for each in _last(records) if knot in each["by_limit"]]
    cost, limit = (float(np.mean([each[key] for each in tail])) for key in ("cost", "limit"))
    return cost, float(f"{limit:.3g}")


def origin(first: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines on the demonstrations and on the clone; the first batch is the clone's."""
    if "demonstrations" not in first:
        return
    shown = first["demonstrations"]
    yield (
        f"{shown['episodes']} episodes demonstrated ({shown['unfinished']} unfinished), "
        f"{shown['steps']} steps, {shown['overridden']} overridden and left out"
    )
    for name, came_to in (("demonstrations", shown), ("clone, in simulation", first)):
        costs = (f"{cost} {value:.2f}" for cost, value in came_to["costs"].items())
        yield f"  {name}: return {came_to['return']:.1f}, {', '.join(costs)} per episode"
    yield (
        f"  cloned in {shown['passes']} passes: negative log-likelihood {shown['nll']:.3f} nats "
        f"per step in {shown['held_out']} episodes held out"
    )


def _start(
    settings: TrainSettings,
    path: Path,
    resume: bool,
    demonstrations: Sequence[Path],
    start_from: Path | None,
) -> Learner:
    if not resume:
        if path.exists():
            raise TrainingError(f"{path}: exists; give --resume to go on from it, or another --out")
        settings.task.check()
        return _begin(settings, demonstrations, start_from)
    for option, given in (("demonstrations", demonstrations), ("start-from", start_from)):
        if given:
            raise TrainingError(
                f"{path}: has begun already, and {option} is only where training begins; "
                f"leave --{option} out to resume"
            )
    learner = Learner.load(path, settings.task)
    for name, held, given in _differences(learner.settings, settings):
        if name not in ("iterations", "task"):  # `trained_on` compares the tasks
            raise TrainingError(
                f"{path}: was trained with {name} = {held}, not {given}; "
                "leave it as it was to resume"
            )
    return learner


def _differences(first: Any, second: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name and both values of each setting that differs, also in groups of settings."""
    for name, held in vars(first).items():
        given = getattr(second, name)
        if isinstance(held, Parameters) or isinstance(given, Parameters):
            if held != given:
                yield name, to_plain(held), to_plain(given)
        elif dataclasses.is_dataclass(held) and type(given) is type(held):
            yield from _differences(held, given)
        elif held != given:
            yield name, held, given


def spread(learner: Learner, address: str, workers: int) -> Cluster:
    """Let a Ray cluster run the learner's shards; return the cluster, to be closed.

    Raises:
        TrainingError, ConfigError: there are no shards, or there is no such cluster.
    """
    if not isinstance(learner.collector, ShardedCollector):
        raise TrainingError("--ray spreads shards, and this run has none (shards = 0)")
    from holdfast.policy.learn.cluster import Cluster  # not every install has Ray

    cluster = Cluster(address, workers, learner.settings, learner.contract)
    learner.collector.runner = cluster
    return cluster


def _begin(settings: TrainSettings, logs: Sequence[Path], parent: Path | None) -> Learner:
    if not logs and parent is None:
        return Learner(settings)
    if not ALGORITHMS[settings.algorithm].takes_demonstrations:
        option = "demonstrations" if logs else "start-from"
        raise TrainingError(
            f"{settings.algorithm} begins as the policy that acts; leave --{option} out"
        )
    if parent is not None:
        learner = Learner(settings)
        learner.started_from = checkpoint.start_from(parent, learner.networks)
        return learner
    shown = read(logs, contract_of(settings), settings.task.make())
    learner = Learner(settings)
    learner.demonstrations = clone(learner.networks, shown, settings.seed)
    return learner


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line to a JSON Lines file.

    Raises:
        TrainingError: the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror})") from None


def _forget_after(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Drop the records of iterations after the checkpoint, which run again; return the others."""
    if not path.exists():
        return []
    records = plain.read_json_lines(path, TrainingError)
    with plain.well_formed(path, TrainingError):
        kept = [record for record in records if record["iteration"] <= iteration]
    files.write(path, "".join(json.dumps(record) + "\n" for record in kept))
    return kept


def _last(records: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the last iterations: `LAST` of them, but not more than a third of all, because a short
    training begins with a policy that is nothing like its last one."""
    return records[-min(LAST, max(len(records) // 3, 1)) :]


def last_means(records: Sequence[Mapping[str, Any]]) -> tuple[float, dict[str, float]]:
    """Return mean return and mean costs of the last iterations."""
    tail = _last(records)
    costs = {name: float(np.mean([r["costs"][name] for r in tail])) for name in tail[0]["costs"]}
    return float(np.mean([record["return"] for record in tail])), costs
