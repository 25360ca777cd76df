"""How fast logs are read and learned from, and in how much memory.

    python -m benchmarks.logs --runs 1 2 4

A run is an hour at 50 Hz: 180,000 periods in 180 episodes, by a policy of one iteration. Each row
is of a process of its own: processor and wall time without imports, and the largest memory.
"read": the arrays of every log. "episodes": also the reward, and log-probabilities and costs that
are computed again. "finetune": critics fitted to all steps, and the policy's step. The runs stay
in --out, and are written where they are missing. An hour takes 271 MB; with --distinct only so many
are written, and "read" reads them again and again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from holdfast.bundle import reader as bundles
from holdfast.cli import main as holdfast
from holdfast.log import episodes, reader
from holdfast.log.writer import Recorder
from holdfast.sim.registry import resolve
from tests.helpers.data.recordings import info, record_episode

EPISODES, STEPS = 720, 250
TASK = "DriveCircle-v0"


def policy_in(folder: Path) -> Path:
    """Return a bundle with its training state beside it."""
    bundle, train = folder / "policy.onnx", folder / "train"
    if not bundle.exists():
        small = ["--batch", "250", "--critic-steps", "1", "--iterations", "1"]
        holdfast(["train", "--task", TASK, *small, "--out", str(train)])
        words = ["export", "--checkpoint", str(train / "checkpoint.safetensors"), "--episodes", "8"]
        holdfast([*words, "--anyway", "--out", str(bundle)])
    return bundle


def record(policy: Path, run: Path, number: int) -> None:
    """Write an hour; the numbers of its episodes tell it from the other hours."""
    maker = bundles.load(policy)
    caps = {cost.name: cost.episode_cap for cost in maker.contract.costs}
    about = info(run=run.name, contract=maker.contract, bundle_hash=maker.hash, episode_cap=caps)
    log = Recorder(run, about)
    for episode in range(EPISODES):
        record_episode(log, number * EPISODES + episode, STEPS, maker)
    log.close()


def read(policy: Path, logs: Sequence[Path]) -> None:
    for log in logs:
        assert len(reader.read(log).steps) == EPISODES * (STEPS + 1)


def walk(policy: Path, logs: Sequence[Path]) -> None:
    held, task = bundles.load(policy), resolve(TASK).make()
    runs = episodes.runs(logs, held.contract)
    steps = sum(len(each) for run in runs for each in episodes.episodes(run, task, held))
    assert steps == len(logs) * EPISODES * STEPS


def finetune(policy: Path, logs: Sequence[Path]) -> None:
    child = policy.with_name("child.onnx")
    words = ["finetune", "--policy", str(policy), "--log", *map(str, logs)]
    assert holdfast([*words, "--out", str(child)]) == 0
    for made in child.parent.glob("child*"):
        made.unlink()


WORK = {"read": read, "episodes": walk, "finetune": finetune}


def measured(name: str, policy: Path, logs: Sequence[Path]) -> tuple[float, float, float]:
    """Return processor time and wall time, s, and largest memory, MB, of this process's work."""
    began_s, used_s = time.monotonic(), time.process_time()
    WORK[name](policy, logs)
    most_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return time.process_time() - used_s, time.monotonic() - began_s, most_kb / 1024.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--work", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--distinct", type=int, help="runs that are written; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/logs"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    policy = policy_in(arguments.out)
    distinct = arguments.distinct or max(arguments.runs)
    logs = [arguments.out / f"hour{i % distinct}" for i in range(max(arguments.runs))]
    for number, log in enumerate(logs[:distinct]):
        if not log.exists():
            began_s = time.monotonic()
            try:
                record(policy, log, number)
            except BaseException:
                shutil.rmtree(log, ignore_errors=True)
                raise
            size_mb = sum(file.stat().st_size for file in log.iterdir()) / 1e6
            print(f"{log}: {size_mb:.0f} MB, written in {time.monotonic() - began_s:.0f} s")
    print("| work | steps | processor, s | wall, s | steps per processor s | memory, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    spawn = multiprocessing.get_context("spawn")
    for name in arguments.work:
        for count in arguments.runs:
            with ProcessPoolExecutor(1, spawn) as pool:
                found = pool.submit(measured, name, policy, logs[:count])
                cpu_s, wall_s, memory_mb = found.result()
            steps = count * EPISODES * STEPS
            print(
                f"| {name} | {steps} | {cpu_s:.1f} | {wall_s:.1f} | {steps / cpu_s:.0f} "
                f"| {memory_mb:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
