"""Limits of a range, one of which is put in force.

A contract whose costs have a `limit_range` stands for a contract per limit. `under` returns the
one that is in force, whose ranges hold this limit alone. Simulator, monitor, evidence and log know
that contract only, so none of them can take another limit for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from holdfast.contract import Contract, Cost
from holdfast.errors import ContractError


def with_limit(cost: Cost, limit: float) -> Cost:
    """Return a cost with another limit and without a range.

    The episode cap keeps its ratio to the limit, but allows at least what one step can cost.
    """
    cap = limit * cost.episode_cap / cost.limit if cost.limit else cost.episode_cap
    cap = max(cap, limit, cost.at_most or 0.0)
    return dataclasses.replace(cost, limit=limit, episode_cap=cap, limit_range=None)


def ranged(cost: Cost, limit: float, limit_range: tuple[float, float]) -> Cost:
    """Return a cost with another limit, and a range that it is of; see `with_limit`."""
    made = with_limit(cost, limit)
    # Rounded: the cap of a limit should not depend on the limits that were in force before.
    cap = max(float(f"{made.episode_cap:.12g}"), limit)
    return dataclasses.replace(made, episode_cap=cap, limit_range=limit_range)


def under(contract: Contract, limits: Sequence[float] = ()) -> Contract:
    """Return the contract under one limit for each cost; itself if no cost has a range.

    The ranges of the result are this limit alone.

    Args:
        limits: of each cost that has a range, in order; empty: the contract's own limits.

    Raises:
        ContractError: another number of limits, or a limit that is out of its range.
    """
    costs = [cost for cost in contract.costs if cost.limit_range is not None]
    if limits and not costs:
        raise ContractError(
            "limit: the policy was trained for one limit alone; train it with --limit-range, or "
            "anew with this --limit"
        )
    if len(limits) not in (0, len(costs)):
        raise ContractError(
            f"limit should have a value for each cost with a range, "
            f"{', '.join(cost.name for cost in costs)}; received {len(limits)}"
        )
    narrowed = {}
    for cost, limit in zip(costs, limits or [cost.limit for cost in costs], strict=True):
        low, high = cost.limit_range or (limit, limit)
        if not low <= limit <= high:  # NaN fails this comparison too
            raise ContractError(
                f"limit of {cost.name} should be in [{low:.12g}, {high:.12g}], the range that the "
                f"policy was trained for, received {limit:.12g}"
            )
        narrowed[cost.name] = ranged(cost, limit, (limit, limit))
    if not costs:
        return contract
    return dataclasses.replace(
        contract, costs=tuple(narrowed.get(cost.name, cost) for cost in contract.costs)
    )


def limits_of(contract: Contract) -> tuple[float, ...]:
    """Return the limits with which `under` makes a contract of one that has ranges."""
    return tuple(cost.limit for cost in contract.costs if cost.limit_range is not None)


def covers(contract: Contract, other: Contract) -> bool:
    """Return whether another contract is this one, or this one under limits of its ranges."""
    try:
        return other.hash in (contract.hash, under(contract, limits_of(other)).hash)
    except ContractError:
        return False
