"""A deployment: the evidence over the episodes of all runs of one robot, kept in a file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from holdfast import files, plain
from holdfast.bundle.reader import Bundle
from holdfast.errors import BundleError, ConfigError, ContractError, FileError, RunError
from holdfast.log.evidence import count
from holdfast.log.format import EpisodeResult
from holdfast.registry.registry import Registry
from holdfast.safety_monitor.evidence import Evidence


def alarms(evidence: Evidence) -> str:
    """Return which alarms the evidence gives, in words."""
    said = []
    for cost in evidence.costs:
        if cost.exceeds.reached_at is not None:
            said.append(f"the mean of {cost.name} is above d {cost.limit:g}")
        if cost.capped.reached_at is not None:
            said.append(f"the episode cap of {cost.name} is hit too often")
    return ", ".join(said)


def require_no_alarm(registry: Registry, bundle: Bundle) -> None:
    """Check that no episode of a bundle in a registry gave an alarm.

    An alarm holds a bundle from the moment that it is in the evidence. The receipt of the hold
    follows at the end of the run, which a kill may prevent.

    Raises:
        BundleError: there is an alarm.
        ConfigError: the evidence is malformed.
    """
    for path in registry.evidences(bundle.hash):
        saved = plain.read_json(path, ConfigError)
        try:
            caps = {cost["name"]: cost["episode_cap"] for cost in saved["evidence"]["costs"]}
            contract = bundle.under([saved["limit"][name] for name in bundle.ranged]).contract
        except (TypeError, KeyError, ContractError):
            caps, contract = {}, bundle.contract  # malformed, as is told below
        evidence = Deployment(path, Evidence(contract, caps)).evidence
        if said := alarms(evidence):
            raise BundleError(
                f"{bundle.hash[:12]} is held on {registry.hardware_id}: alarm after "
                f"{plain.counted(evidence.episodes, 'episode')}: {said}"
            )


class Deployment:
    """Evidence in a file, so that a stop of any kind loses at most the episode under way.

    Args:
        path: path of the file, which need not exist yet.
        evidence: new evidence, which is restored from the file.

    Raises:
        ConfigError: the file is of another contract or episode cap, or malformed.
    """

    def __init__(self, path: Path, evidence: Evidence) -> None:
        self.path, self.evidence = path, evidence
        self._hardware_id: str | None = None
        self._read = self._bytes()
        try:
            if not path.exists():
                return
            data = plain.read_json(path, ConfigError)
            self._hardware_id, saved = data["hardware_id"], data["evidence"]
            limit = data.get("limit")  # older files lack it
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        except (TypeError, KeyError):
            raise ConfigError(
                f"{path}: should hold the evidence of a deployment, as deploy writes it"
            ) from None
        try:
            evidence.restore(saved)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        if limit not in (None, mine := self._limits()):
            raise ConfigError(
                f"{path}: limit should be {json.dumps(mine)}, received {plain.shown(limit)}"
            )

    @contextlib.contextmanager
    def claimed(self, hardware_id: str) -> Iterator[None]:
        """Claim the evidence for a run; no other run may add to it until the block ends.

        Raises:
            ConfigError, RunError: see `claim`.
            RunError: another run adds to it, or did since it was read here.
        """
        path = self.path.with_name(self.path.name + ".lock")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.locked(path, 0.0))
            except FileError as error:
                raise RunError(
                    f"{self.path}: the evidence is that of one run at a time: {error}",
                    "evidence_lost",
                ) from None
            if self._bytes() != self._read:
                raise RunError(
                    f"{self.path}: another run added to the evidence meanwhile; start again",
                    "evidence_lost",
                )
            self.claim(hardware_id)
            yield

    def _bytes(self) -> bytes | None:
        try:
            return files.read(self.path, plain.MAX_BYTES)
        except FileError:  # there is none yet; what else is wrong is told when it is parsed
            return None

    def claim(self, hardware_id: str) -> None:
        """Claim the evidence for a robot, and check that the file can be written.

        Raises:
            ConfigError: the evidence is of another robot.
            RunError: the file cannot be written.
        """
        self.require_robot(hardware_id)
        self._hardware_id = hardware_id
        self._save()

    def require_robot(self, hardware_id: str) -> None:
        """Raise ConfigError where the evidence is of another robot."""
        if self._hardware_id not in (None, hardware_id):
            raise ConfigError(
                f"{self.path}: is the evidence of robot '{plain.shown(self._hardware_id)}', not of "
                f"'{hardware_id}'"
            )

    def add(self, result: EpisodeResult) -> None:
        """Add an episode; it is on the disk when this method returns.

        Raises:
            RunError: the file cannot be written, and is as it was.
        """
        count(self.evidence, result)
        self._save()

    def _save(self) -> None:
        data = {
            "hardware_id": self._hardware_id,
            "limit": self._limits(),
            "evidence": self.evidence.to_mapping(),
        }
        try:
            files.write(self.path, json.dumps(data, indent=1) + "\n")
        except FileError as error:
            raise RunError(f"the evidence cannot be written: {error}", "evidence_lost") from None

    def _limits(self) -> dict[str, float]:
        return {cost.name: cost.limit for cost in self.evidence.costs}

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Return each cost's mean, and after how many episodes each fact was evident, by name."""
        episodes = self.evidence.episodes
        return {
            cost.name: {
                "episodes": episodes,
                "mean": cost.total / episodes if episodes else None,
                "limit": cost.limit,
                "mean_exceeds_limit_since": cost.exceeds.reached_at,
                "mean_keeps_limit_since": cost.keeps.reached_at,
                "episode_cap_often_hit_since": cost.capped.reached_at,
            }
            for cost in self.evidence.costs
        }

    def sentences(self) -> list[str]:
        """Return a line for each cost: its alarms, its certificate, or that neither is evident."""
        said = []
        for name, cost in self.summary().items():
            since = {
                f"ALARM: the mean is above d {cost['limit']:g}": cost["mean_exceeds_limit_since"],
                "ALARM: the episode cap is hit too often": cost["episode_cap_often_hit_since"],
                f"certificate: the mean is below d {cost['limit']:g}": cost[
                    "mean_keeps_limit_since"
                ],
            }
            evident = [
                f"{what} (after {plain.counted(int(n), 'episode')})"
                for what, n in since.items()
                if n is not None
            ]
            said.append(
                f"evidence of {plain.counted(self.evidence.episodes, 'episode')}, {name}: "
                + ("; ".join(evident) or "not enough yet for an alarm or a certificate")
            )
        return said
