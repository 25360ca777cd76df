"""The episodes of many runs as one Parquet file, for notebooks; needs the package pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.log.index import Run

TEXTS = ("path", "run", "robot", "hardware_id", "task", "contract", "policy", "started_at")
COUNTS = ("episode", "steps", "interventions", "deadline_misses")
ENDS = ("ended", "code", "text")


class EpisodeTable:
    """A Parquet file that grows run by run, with one row per episode; costs are by name.

    Args:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._table: Any = pa.Table
        self._schema: Any = pa.schema([
            *((name, pa.string()) for name in TEXTS),
            ("exploring", pa.bool_()),
            *((name, pa.int64()) for name in COUNTS),
            ("costs", pa.map_(pa.string(), pa.float64())),
            ("reward_return", pa.float64()),
            *((name, pa.string()) for name in ENDS),
        ])  # fmt: skip
        self._file = path.open("wb")  # a path's bytes need not be characters, which pyarrow needs
        self._writer: Any = parquet.ParquetWriter(self._file, self._schema)

    def add(self, run: Run) -> None:
        """Write a run's episodes."""
        of_the_run = {name: getattr(run, name) for name in (*TEXTS, "exploring")}
        rows = [
            {
                **of_the_run,
                **{name: getattr(e, name) for name in (*COUNTS, "reward_return", *ENDS)},
                "costs": list(zip(run.cost_mean, e.costs, strict=True)),
            }
            for e in run.episodes
        ]
        self._writer.write_table(self._table.from_pylist(rows, self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        self._file.close()
