"""`holdfast logs`: lists many runs, and writes them for other programs."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from holdfast import files
from holdfast.errors import ConfigError
from holdfast.log.index import Run, index, logs_in
from holdfast.plain import counted, printable
from holdfast.schema import to_plain


def command(
    folders: Positional[tuple[Path, ...]],
    policy: str = "",
    json_out: Path | None = None,
    parquet: Path | None = None,
) -> None:
    """List the runs in folders: what ran, what it cost, where it was stopped.

    Logs that are torn, foreign, damaged, there twice, or of another policy are named and left out.

    Args:
        folders: folders that hold logs at any depth, or logs.
        policy: leave out the logs of other policies; the SHA-256 of a bundle, or its first 8 or
            more digits.
        json_out: write the index to this file too, as JSON Lines: one run, or one log that was
            left out, in each line, with the last ten seconds before each stop.
        parquet: write the episodes of all runs to this Parquet file too; needs the package
            pyarrow.
    """
    if policy and (len(policy) < 8 or set(policy) - set("0123456789abcdef")):
        raise ConfigError(
            f"policy should be the first 8 or more hex digits of a bundle's SHA-256, received "
            f"'{policy}'"
        )
    if json_out is not None:
        files.require_output(json_out, (".jsonl", ".json"), folders)
    if parquet is not None:
        files.require_output(parquet, (".parquet",), folders)
    runs, left_out = 0, []
    with ExitStack() as stack:
        lines = None
        if json_out is not None:
            part = stack.enter_context(files.made(json_out))
            lines = stack.enter_context(part.open("w", encoding="utf-8"))
        table = None
        if parquet is not None:
            from holdfast.log.parquet import EpisodeTable

            table = EpisodeTable(stack.enter_context(files.made(parquet)))
            stack.callback(table.close)
        print(_HEAD)
        for found in index(logs_in(folders), policy):
            if isinstance(found, Run):
                runs += 1
                print(printable(_line(found)))
                if table is not None:
                    table.add(found)
            else:
                left_out.append(found)
            if lines is not None:
                kind = "run" if isinstance(found, Run) else "left_out"
                lines.write(json.dumps({kind: _finite(to_plain(found))}, allow_nan=False) + "\n")
    for each in left_out:
        print(printable(f"left out: {each.why}"))
    print(f"{counted(runs, 'run')}, {counted(len(left_out), 'log')} left out")


def _finite(data: Any) -> Any:
    """Return plain data in which null stands for each number that JSON does not have."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


_COLUMNS = "{:20}  {:12}  {:12}  {:12}  {:>8}  {:>7}  {:>10}  {:>4}  {:24}  {}"
_HEAD = _COLUMNS.format(
    *("started at (UTC)", "robot", "policy", "contract"),
    *("episodes", "stopped", "intervened", "gaps", "mean costs", "log"),
)


def _line(run: Run) -> str:
    lost = f" ({counted(run.lost_steps, 'period')} not logged)" if run.lost_steps else ""
    costs = ", ".join(f"{name} {value:.3g}" for name, value in run.cost_mean.items())
    return _COLUMNS.format(
        run.started_at,
        run.hardware_id or run.robot,
        run.policy[:12] or "none",
        run.contract[:12],
        len(run.episodes),
        run.stopped,
        run.interventions,
        run.gaps,
        costs,
        run.path + lost,
    )
