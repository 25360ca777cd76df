"""A deployment: evidence over the episodes of many runs of one robot, kept in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from holdfast import files, plain
from holdfast.errors import ConfigError, FileError, RunError
from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.reasons import RUN_BUDGET_SPENT


def count(evidence: Evidence, result: EpisodeResult) -> None:
    """Add an episode to the evidence; only its end or its run budget make it a whole one."""
    whole = result.ended == COMPLETED or result.code == RUN_BUDGET_SPENT.code
    evidence.add(result.costs, whole)


class Deployment:
    """Evidence in a file, so that a stop of any kind loses at most the episode under way.

    Args:
        path: of the file; need not exist yet.
        evidence: new; goes on where the file left off.

    Raises:
        ConfigError: the file is of another contract or run budget, or malformed.
    """

    def __init__(self, path: Path, evidence: Evidence) -> None:
        self.path, self.evidence = path, evidence
        self._hardware_id: str | None = None
        try:
            if not path.exists():
                return
            data = plain.read_json(path, ConfigError)
            self._hardware_id, saved = data["hardware_id"], data["evidence"]
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        except (TypeError, KeyError):
            raise ConfigError(
                f"{path}: should hold the evidence of a deployment, as deploy writes it"
            ) from None
        try:
            evidence.restore(saved)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}; give another --evidence") from None

    def claim(self, hardware_id: str) -> None:
        """Make it this robot's, and see that it can be written.

        Raises:
            ConfigError: it is another robot's.
            RunError: it cannot be written.
        """
        if self._hardware_id not in (None, hardware_id):
            raise ConfigError(
                f"{self.path}: is the evidence of robot '{self._hardware_id}', not of "
                f"'{hardware_id}'; give another --evidence"
            )
        self._hardware_id = hardware_id
        self._save()

    def add(self, result: EpisodeResult) -> None:
        """Count an episode; when this returns, it is on the disk.

        Raises:
            RunError: it cannot be written; the file is as it was.
        """
        count(self.evidence, result)
        self._save()

    def _save(self) -> None:
        data = {"hardware_id": self._hardware_id, "evidence": self.evidence.to_mapping()}
        try:
            files.write(self.path, json.dumps(data, indent=1) + "\n")
        except FileError as error:
            raise RunError(f"the evidence cannot be written: {error}", "evidence_lost") from None

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return, by cost name, the mean and after how many episodes what became evident."""
        episodes = self.evidence.episodes
        return {
            cost.name: {
                "episodes": episodes,
                "mean": cost.total / episodes if episodes else None,
                "limit": cost.limit,
                "mean_exceeds_limit_since": cost.exceeds.reached_at,
                "mean_keeps_limit_since": cost.keeps.reached_at,
                "run_budget_often_hit_since": cost.capped.reached_at,
            }
            for cost in self.evidence.costs
        }

    def sentences(self) -> list[str]:
        """Return a line per cost for a person: alarms first, else certificate, else neither."""
        said = []
        for name, cost in self.summary().items():
            since = {
                f"ALARM: the mean is above d {cost['limit']:g}": cost["mean_exceeds_limit_since"],
                "ALARM: the run budget is hit too often": cost["run_budget_often_hit_since"],
                f"certificate: the mean is below d {cost['limit']:g}": cost[
                    "mean_keeps_limit_since"
                ],
            }
            evident = [f"{what} (since episode {n})" for what, n in since.items() if n is not None]
            said.append(
                f"evidence of {cost['episodes']} episodes, {name}: "
                + ("; ".join(evident) or "not enough yet for an alarm or a certificate")
            )
        return said
