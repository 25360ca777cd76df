"""The trial of a canary: episodes under its tightened episode caps until something is evident.

A certificate says that every mean cost keeps its limit d under these caps; each certificate is
false with probability `alpha` at most, however often it is looked at (safety_monitor/evidence.py).
An alarm holds the bundle.
"""

from __future__ import annotations

from holdfast.errors import RunError
from holdfast.log.evidence import ALARM, CERTIFIED, UNDECIDED, decision
from holdfast.log.format import TORN, EpisodeResult
from holdfast.plain import counted
from holdfast.registry.registry import MOST_TEXT
from holdfast.registry.signing import CANARY
from holdfast.robot.run.assembly import Assembly
from holdfast.robot.run.deployment import alarms


class Trial:
    """The trial of the canary that a run was assembled from.

    Raises:
        RunError: it has ended already; a bundle with an alarm is held by then.
    """

    def __init__(self, assembly: Assembly) -> None:
        admission, deployment = assembly.admission, assembly.deployment
        assert admission.slot is not None
        assert admission.registry is not None
        assert deployment is not None
        self._bundle, self._allowance = admission.slot.bundle, admission.slot.allowance
        self._registry, self._deployment = admission.registry, deployment
        self._require_open()

    @staticmethod
    def of(assembly: Assembly) -> Trial | None:
        """Return the trial of a run; None if it is not that of a canary."""
        return Trial(assembly) if assembly.admission.name == CANARY else None

    @property
    def left(self) -> int:
        """Number of episodes that the allowance still has."""
        return self._allowance - self._deployment.evidence.episodes

    def settle(self) -> None:
        """Count an episode for each earlier run that a kill or a power cut ended.

        Nobody knows what the episode under way then cost. For the certificate it counts its whole
        cap: else a run that is killed whenever it goes badly would certify anything.

        Raises:
            RunError: the trial has ended with that.
            FileError: it cannot be written.
        """
        unknown = (0.0,) * len(self._deployment.evidence.costs)
        for run in self._registry.unended(self._bundle, CANARY):
            self._deployment.add(EpisodeResult(0, 0, unknown, 0, 0, TORN))
            why = "killed, or the power was cut; an episode was counted as cut short"
            self._registry.add("end", self._bundle, lambda s: s, slot=CANARY, why=why, run=run)
        self._require_open()

    def _require_open(self) -> None:
        if self.decided():
            raise RunError(f"the trial of the canary has ended: {self.conclude()}")

    def decided(self) -> bool:
        """Return whether the trial has ended."""
        return decision(self._deployment.evidence) != UNDECIDED or self.left <= 0

    def conclude(self) -> str:
        """Hold the bundle after an alarm, and return in a sentence how the trial stands.

        Raises:
            FileError: that the bundle is held cannot be written.
        """
        evidence = self._deployment.evidence
        after, whose = f"after {counted(evidence.episodes, 'episode')}", self._bundle[:12]
        evident = decision(evidence)
        if evident == CERTIFIED:
            return f"certified {after}; `holdfast promote` may promote {whose}"
        if evident == ALARM:
            said = f"alarm {after}: {alarms(evidence)}"
            if self._bundle not in self._registry.state.held:
                why = said[:MOST_TEXT]
                self._registry.add("hold", self._bundle, lambda s: s.hold(self._bundle, why))
            return f"{said}; {whose} is held"
        if self.left > 0:
            return f"undecided {after}, {self.left} are left"
        return (
            f"undecided {after}, and the allowance of {self._allowance} is used up; a larger one, "
            "given to `holdfast promote --canary`, goes on. An episode that was stopped before its "
            "end by anything but its cap counts as its whole cap for a certificate"
        )
