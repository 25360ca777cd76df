"""Evidence over episodes: is the mean cost above the limit d, or not?

The third clock of the budget. Steps within an episode are correlated, so it counts episodes,
and it may be looked at after every one of them: an e-process is a bet against a hypothesis,
made with play money, and money that grows twentyfold under a fair or losing game is as
unlikely as 1/20, at any time (Ville 1939; Waudby-Smith and Ramdas 2024 for bounded means).
The episode cap bounds what an episode can cost, and so how much a bet can lose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.contract import Contract
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor.budget import Budget
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.messages import Reason
from holdfast.safety_monitor.reasons import EPISODE_CAP_OFTEN_HIT, MEAN_COST_EXCEEDED
from holdfast.schema import read, to_plain

BETS = 10
BOLDEST, MEEKEST = 0.9, 0.02
FRACTIONS = tuple(BOLDEST * (MEEKEST / BOLDEST) ** (i / (BETS - 1)) for i in range(BETS))
"""Of what a bet could stake without ever losing everything; even in the logarithm, since how
far the truth is from the hypothesis, and so which bet is best, is not known."""

LEAST_MEAN = 1e-6
"""Smallest mean that is tested. A smaller hypothesis is replaced by this one: rejecting this one
rejects the smaller one too."""


SLACK = 1e-6
"""What a sum may be off by rounding, relative or in nats for each episode."""


@dataclass(frozen=True)
class ProcessState:
    """All that an e-process remembers."""

    count: int
    log_wealth: tuple[float, ...]
    reached_at: int | None

    def __post_init__(self) -> None:
        if len(self.log_wealth) != BETS:
            raise ConfigError(
                f"saved evidence: log_wealth should hold {BETS} bets, received "
                f"{len(self.log_wealth)}"
            )


class EProcess:
    """Evidence against "each of these values in [0, 1] has at most this expectation".

    Bet f multiplies its wealth by 1 + f / mean * (x - mean), which is 1 in expectation, or
    less, if the hypothesis is true. The evidence is the average wealth of all bets.

    Args:
        mean: of the hypothesis; from 1 on, nothing speaks against it.
        alpha: the evidence ever reaches 1/alpha under a true hypothesis with at most this
            probability.

    Attributes:
        reached_at: after how many values it first did; None so far.
    """

    def __init__(self, mean: float, alpha: float) -> None:
        self._mean = max(mean, LEAST_MEAN)
        self._stakes = tuple(fraction / self._mean for fraction in FRACTIONS)
        self._enough = -math.log(alpha)
        self._log_wealth = (0.0,) * BETS
        self.count = 0
        self.reached_at: int | None = None

    def add(self, x: float) -> None:
        """Count one value in [0, 1]."""
        gain = x - self._mean
        self._log_wealth = tuple(
            wealth + math.log1p(stake * gain)
            for wealth, stake in zip(self._log_wealth, self._stakes, strict=True)
        )
        self.count += 1
        if self.reached_at is None and self.log_evidence >= self._enough:
            self.reached_at = self.count

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the average wealth."""
        return _log_mean(self._log_wealth)

    def save(self) -> ProcessState:
        """Return all that it remembers."""
        return ProcessState(self.count, self._log_wealth, self.reached_at)

    def require_possible(self, state: ProcessState, mean: float, where: str) -> None:
        """Raise ConfigError unless values in [0, 1] whose mean is at most `mean` lead to a state.

        The logarithm is concave: no values earn a bet more than their mean, each time (Jensen).
        """
        count, reached, slack = state.count, state.reached_at, SLACK * (1 + state.count)
        for stake, wealth in zip(self._stakes, state.log_wealth, strict=True):
            least = count * math.log1p(-stake * self._mean)
            most = count * math.log1p(stake * (mean - self._mean))
            if not least - slack <= wealth <= most + slack:
                raise ConfigError(
                    f"{where}.log_wealth should be between {least:.6g} and {most:.6g} after "
                    f"{count} episodes, received {wealth:.6g}"
                )
        surplus = _log_mean(state.log_wealth) - self._enough
        if reached is None:
            possible = surplus <= slack
        else:
            soonest = [reached * math.log1p(stake * (1.0 - self._mean)) for stake in self._stakes]
            possible = 1 <= reached <= count and _log_mean(soonest) >= self._enough - slack
            possible &= reached < count or surplus >= -slack
        if not possible:
            raise ConfigError(
                f"{where}.reached_at should be what its log_wealth and its {count} episodes say, "
                f"received {reached}"
            )

    def restore(self, state: ProcessState) -> None:
        """Go on where another left off, exactly."""
        self.count, self.reached_at = state.count, state.reached_at
        self._log_wealth = state.log_wealth


def _log_mean(log_wealth: Sequence[float]) -> float:
    """Return the natural logarithm of the average wealth of the bets."""
    most = max(log_wealth)
    return most + math.log(sum(math.exp(w - most) for w in log_wealth) / BETS)


@dataclass(frozen=True)
class CostState:
    """All that is remembered of one cost."""

    name: str
    episode_cap: float
    total: float
    exceeds: ProcessState
    keeps: ProcessState
    capped: ProcessState


class CostEvidence:
    """What the episodes say of one cost.

    Attributes:
        total: the sum of all episodes' costs.
        exceeds: evidence that the mean is above d: reaching 1/alpha is the alarm.
        keeps: evidence that it is below: reaching 1/alpha is the certificate.
        capped: evidence that the episode cap is hit more often than is tolerated. A capped
            cost hides how bad the worst episodes would have been; this shows that they are.
        cap_hit_rate: how often it may be hit.
    """

    def __init__(
        self, name: str, limit: float, episode_cap: float, alpha: float, cap_hit_rate: float
    ) -> None:
        self.name, self.limit, self.episode_cap = name, limit, episode_cap
        self.cap_hit_rate, self.total = cap_hit_rate, 0.0
        share = limit / episode_cap  # above 1 where a deployment allows less than d: no alarm then
        self.exceeds = EProcess(share, alpha)
        self.keeps = EProcess(1.0 - share, alpha)
        self.capped = EProcess(cap_hit_rate, alpha)

    def add(self, spent: float, capped: bool, complete: bool) -> None:
        """Count one episode; where its cost is not fully known, in favour of neither side."""
        self.total += spent
        self.exceeds.add(spent / self.episode_cap)
        self.keeps.add(1.0 - spent / self.episode_cap if complete and not capped else 0.0)
        self.capped.add(1.0 if capped else 0.0)

    def save(self) -> CostState:
        """Return all that is remembered."""
        processes = (self.exceeds.save(), self.keeps.save(), self.capped.save())
        return CostState(self.name, self.episode_cap, self.total, *processes)

    def require_possible(self, state: CostState) -> None:
        """Raise ConfigError unless some episodes lead to a state.

        What an episode counts for the certificate is at most the share of its cap that it spared.
        """
        where, count = f"saved evidence: {state.name}", state.exceeds.count
        counts = (count, state.keeps.count, state.capped.count)
        if count < 0 or len(set(counts)) > 1:
            raise ConfigError(
                f"{where}: its three counts of episodes should be alike and at least 0, received "
                f"{', '.join(map(str, counts))}"
            )
        most = count * self.episode_cap
        if not -SLACK <= state.total <= most * (1.0 + SLACK):
            raise ConfigError(
                f"{where}.total should be between 0 and {most:g} after {count} episodes under a "
                f"cap of {self.episode_cap:g}, received {state.total:g}"
            )
        share = min(max(state.total / most, 0.0), 1.0) if count else 0.0
        self.exceeds.require_possible(state.exceeds, share, f"{where}.exceeds")
        self.keeps.require_possible(state.keeps, 1.0 - share, f"{where}.keeps")
        self.capped.require_possible(state.capped, 1.0, f"{where}.capped")

    def restore(self, state: CostState) -> None:
        """Go on where another left off, exactly."""
        self.total = state.total
        self.exceeds.restore(state.exceeds)
        self.keeps.restore(state.keeps)
        self.capped.restore(state.capped)


def tolerated(rate: float, share: float) -> float:
    """Return how often an episode cap may be hit that is a share of the contract's.

    The same policy hits a lower cap more often. A cost with an exponential tail that reaches the
    contract's cap at the rate r reaches this share of it at the rate r^share.
    """
    return math.pow(rate, share)


@dataclass(frozen=True)
class EvidenceState:
    """All that is remembered of a deployment."""

    contract_hash: str
    alpha: float
    cap_hit_rate: float
    costs: tuple[CostState, ...]


class Evidence:
    """What the episodes of a deployment say of the contract's costs.

    Args:
        contract: names the costs, their limits d and episode caps.
        episode_cap: by cost name, as the monitor is given it; the same for all episodes.
        alpha: of each alarm and each certificate.
        cap_hit_rate: how often the contract's episode cap may be hit; see `tolerated`.

    Raises:
        ContractError: as the monitor's episode cap.
        ConfigError: alpha or cap_hit_rate not in (0, 1).
    """

    def __init__(
        self,
        contract: Contract,
        episode_cap: Mapping[str, float] | None = None,
        alpha: float = 0.05,
        cap_hit_rate: float = 0.05,
    ) -> None:
        for name, value in (("alpha", alpha), ("cap_hit_rate", cap_hit_rate)):
            if not 0.0 < value < 1.0:
                raise ConfigError(f"evidence: {name} should be between 0 and 1, received {value}")
        self._contract_hash, self._alpha, self._cap_hit_rate = contract.hash, alpha, cap_hit_rate
        self._budget = Budget(contract, CostModel(contract).largest, episode_cap, None)
        self.costs = tuple(
            CostEvidence(
                cost.name, cost.limit, run, alpha, tolerated(cap_hit_rate, run / cost.episode_cap)
            )
            for cost, run in zip(contract.costs, self._budget.cap, strict=True)
        )

    @property
    def episodes(self) -> int:
        """How many were counted."""
        return self.costs[0].exceeds.count

    def add(self, spent: Sequence[float], complete: bool) -> None:
        """Count an episode.

        Args:
            spent: the last verdict's, in the contract's order.
            complete: it ran to its end, or until its episode cap stopped it. What anything else
                cut short would have cost is not known: for the alarm it counts what it had
                cost, for the certificate the whole episode cap.

        Raises:
            ContractError: a cost that no episode under these episode caps can have.
        """
        budget = self._budget
        if len(spent) != len(self.costs) or not all(
            0.0 <= value <= run for value, run in zip(spent, budget.cap, strict=True)
        ):
            raise ContractError(
                f"evidence: an episode's costs should be between 0 and {list(budget.cap)}, "
                f"received {list(spent)}"
            )
        for cost, value, most in zip(self.costs, spent, budget.largest, strict=True):
            cost.add(value, value + most > cost.episode_cap, complete)

    def judge(self, reasons: list[Reason]) -> None:
        """Append what is evident: it forbids another episode."""
        for cost in self.costs:
            if cost.exceeds.reached_at is not None:
                episodes = cost.exceeds.reached_at
                reasons.append(
                    MEAN_COST_EXCEEDED(cost=cost.name, limit=cost.limit, episodes=episodes)
                )
            if cost.capped.reached_at is not None:
                rate, episodes = cost.cap_hit_rate, cost.capped.reached_at
                reasons.append(EPISODE_CAP_OFTEN_HIT(cost=cost.name, rate=rate, episodes=episodes))

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data, from which JSON restores every bit."""
        costs = tuple(cost.save() for cost in self.costs)
        state = EvidenceState(self._contract_hash, self._alpha, self._cap_hit_rate, costs)
        plain: dict[str, Any] = to_plain(state)
        return plain

    def restore(self, data: Any) -> None:
        """Go on where a saved deployment left off.

        Raises:
            ConfigError: malformed, or saved under another contract, episode cap or alpha, or no
                episodes lead to it. What was counted so far then stays as it was.
        """
        state = read(EvidenceState, data, "saved evidence", ConfigError)
        mine = (self._contract_hash, self._alpha, self._cap_hit_rate)
        runs = tuple((cost.name, cost.episode_cap) for cost in self.costs)
        if mine != (state.contract_hash, state.alpha, state.cap_hit_rate) or runs != tuple(
            (cost.name, cost.episode_cap) for cost in state.costs
        ):
            raise ConfigError(
                "saved evidence: is of another contract, episode cap, alpha or cap_hit_rate; "
                "evidence cannot be carried over"
            )
        pairs = tuple(zip(self.costs, state.costs, strict=True))
        for cost, saved in pairs:
            cost.require_possible(saved)
        if len(set(counted := [saved.exceeds.count for _, saved in pairs])) > 1:
            raise ConfigError(
                f"saved evidence: the costs' counts of episodes should be alike, received "
                f"{', '.join(map(str, counted))}"
            )
        for cost, saved in pairs:
            cost.restore(saved)
