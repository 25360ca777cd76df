"""Recomputes what a log says, from the bundle that ran and from the contract's costs.

A log is a file that somebody else may have written. What is learned from it has to be true.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from holdfast.bundle.reader import Actor, Bundle, log_prob
from holdfast.errors import LogError
from holdfast.log.format import COMPLETED, TORN
from holdfast.log.reader import Episode, Log
from holdfast.observer import Observer
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.messages import State
from holdfast.safety_monitor.reasons import LINK_LOST, ROBOT, find
from holdfast.signals import Array

LOG_PROB_TOLERANCE = 1e-3
"""Largest difference of a log-probability, nats; relative where it is beyond 1. The network's
float32 makes 1e-5 of it."""

OBSERVED_TOLERANCE = 1e-5
"""Largest difference of an observed value from its signal's; relative where it is beyond 1."""

PERIOD_TOLERANCE = 0.25
"""Largest difference of an episode's median period from the contract's, as a share of it."""

LARGEST = 1e6
"""No signal, observation or action of a mobile robot is larger, in SI units."""


def obeyed(log: Log, episode: Episode) -> bool:
    """Return whether the device did as it was told up to an episode's end.

    After a stop from outside of the monitor that speaks against the robot, as a fault of the device
    does, nobody can say since when it did not.
    """
    stops = [event for event in log.events if event.name == "stop"]
    result = episode.result
    if result.ended == TORN:  # its end is not logged, but a stop just before that may be
        number = log.steps["episode"]
        codes = {e.code for e in stops if e.before and number[e.before - 1] == result.episode}
    else:
        codes = {result.code} & {LINK_LOST.code, *(event.code for event in stops)}
    return all(find(code).against is not ROBOT for code in codes)


def require_bundle(log: Log, bundle: Bundle) -> None:
    """Raise LogError unless this very bundle made the log."""
    if log.info.bundle_hash != bundle.hash:
        raise LogError(
            f"{log.path}: was made by the bundle {log.info.bundle_hash[:12] or 'of nobody'}, not "
            f"by {bundle.path} ({bundle.hash[:12]})"
        )


def require_log_prob(log: Log, episode: Episode, bundle: Bundle) -> int:
    """Compare the log-probabilities of an episode with what its bundle says of the actions.

    Returns:
        How many rows had one.

    Raises:
        LogError: one differs; or the bundle cannot say one.
    """
    rows = np.flatnonzero(np.isfinite(episode.log_prob))
    if not len(rows):
        return 0
    with np.errstate(over="ignore"):  # what float32 cannot hold makes NaN, which is refused
        mean, log_std = _outputs(bundle, episode, rows)
    logged, contract = episode.log_prob[rows], bundle.contract
    again = np.array([
        log_prob(action, center, spread, contract)
        for action, center, spread in zip(episode.proposed[rows], mean, log_std, strict=True)
    ])  # fmt: skip
    allowed = LOG_PROB_TOLERANCE * np.maximum(1.0, np.abs(again))
    wrong = ~(np.abs(logged - again) <= allowed)  # NaN too
    if wrong.any():
        k = int(wrong.argmax())
        raise LogError(
            f"{log.path}: episode {episode.result.episode}, step {rows[k]}: log_prob should be "
            f"{again[k]:.6g}, as {bundle.path} says of this action, received {logged[k]:.6g}"
        )
    return len(rows)


def _outputs(bundle: Bundle, episode: Episode, rows: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return mean and log_std (rows, actions) of an episode's rows.

    A recurrent policy is asked all rows from the first, as it was in the run.
    """
    if not bundle.state_size:
        mean, log_std = bundle.outputs(episode.observation[rows], ("action", "log_std"))
        return mean, log_std
    bundle.require_density()
    actor = Actor(bundle, explore=True)
    said = [actor.act(observation) for observation in episode.observation[: rows[-1] + 1]]
    return np.array([said[k][0] for k in rows]), np.array([said[k][1] for k in rows])


def billed(log: Log, episode: Episode) -> Array:
    """Return the costs (K, costs) of an episode's K actions, by the contract's cost functions.

    Where the monitor could not tell a cost, it billed the largest, and so does this.

    Raises:
        LogError: the log says another cost, or one that no step can have.
    """
    cost_model = CostModel(log.info.contract)
    lacks = [name for name in cost_model.signals if name not in episode.signals]
    if lacks:
        raise LogError(f"{log.path}: lacks the signal '{lacks[0]}', of which a cost is made")
    largest = np.array(cost_model.largest)
    signals = {name: episode.signals[name][1:] for name in cost_model.signals}
    known = np.all([np.isfinite(values).all(axis=1) for values in signals.values()], axis=0)
    told = np.where(known[:, None], cost_model(signals), largest)
    logged = episode.costs[1:]
    doubted = np.array([len(reasons) > 0 for reasons in episode.reasons[1:]])[:, None]
    right = np.isclose(logged, told, rtol=1e-9, atol=1e-9) | (doubted & (logged == largest))
    # A stop between two periods: the last row was read, and not billed any more.
    right[-1] |= (episode.state[-1] == State.STOPPED) & (logged[-1] == 0.0)
    right &= np.isfinite(logged) | ~np.isfinite(told)
    if not right.all():
        k, i = np.argwhere(~right)[0].tolist()
        name = log.info.contract.costs[i].name
        raise LogError(
            f"{log.path}: episode {episode.result.episode}, step {k + 1}: cost '{name}' should "
            f"be {told[k, i]:g}, as its signals say, received {logged[k, i]:g}"
        )
    costs: Array = np.where(logged == largest, logged, told)
    return costs


def require_result(log: Log, episode: Episode) -> None:
    """Raise LogError unless an episode's end says what its rows say.

    Where periods were not logged, its costs are not compared.
    """
    result, contract = episode.result, log.info.contract
    where = f"{log.path}: episode {result.episode}: "
    if result.ended == COMPLETED and result.steps != contract.episode_steps:
        raise LogError(
            f"{where}should have {contract.episode_steps} steps to be completed, as the contract "
            f"says, received {result.steps}"
        )
    summed = episode.costs.sum(axis=0)
    wrong = ~np.isclose(result.costs, summed, rtol=1e-9, atol=1e-9, equal_nan=True)
    if wrong.any() and not log.lost_steps:
        i = int(wrong.argmax())
        raise LogError(
            f"{where}its {contract.costs[i].name} should be {summed[i]:g}, as its steps say, "
            f"received {result.costs[i]:g}"
        )


def require_state(log: Log, episode: Episode) -> None:
    """Raise LogError unless each state of the monitor is one that there is."""
    foreign = episode.state[~np.isin(episode.state, list(State))]
    if len(foreign):
        raise LogError(
            f"{log.path}: episode {episode.result.episode}: state should be in 0 to "
            f"{max(State):d}, received {foreign[0]}"
        )


def require_applied(log: Log, episode: Episode) -> None:
    """Raise LogError unless each action that was applied is one that the contract allows."""
    for i, action in enumerate(log.info.contract.action):
        applied, slack = episode.applied[:, i], OBSERVED_TOLERANCE * (action.high - action.low)
        wrong = ~((applied >= action.low - slack) & (applied <= action.high + slack))  # NaN too
        if wrong.any():
            k = int(wrong.argmax())
            raise LogError(
                f"{log.path}: episode {episode.result.episode}, step {k}: the applied "
                f"{action.name} should be between {action.low:g} and {action.high:g}, as the "
                f"contract says, received {applied[k]:g}"
            )


def require_observed(log: Log, episode: Episode, rows: int) -> None:
    """Raise LogError unless the observations are made of the signals of their own rows.

    What the log does not hold, or what could not be used, is not compared.

    Args:
        rows: the number of rows that are compared, from the first.
    """
    contract, row = log.info.contract, np.arange(rows)
    signals = {
        channel.signal: episode.signals[channel.signal][:rows]
        if channel.signal in episode.signals
        else np.full((rows, channel.signal_size), np.nan)
        for channel in contract.observation
    }
    observer = Observer(contract)
    earlier = [
        {name: signals[name][np.maximum(row - back, 0)] for name in observer.remembered}
        for back in range(1, observer.depth)
    ]
    with np.errstate(all="ignore"):  # a reading may be NaN or absurd here
        again = observer(signals, earlier)
        scale = np.maximum(1.0, np.abs(again))
        wrong = np.abs(episode.observation[:rows] - again) > OBSERVED_TOLERANCE * scale
    if wrong.any():
        k, i = np.argwhere(wrong)[0].tolist()
        names = [channel.name for channel in contract.observation for _ in range(channel.size)]
        raise LogError(
            f"{log.path}: episode {episode.result.episode}, step {k}: '{names[i]}' of the "
            f"observation should be {again[k, i]:.6g}, as its signal says, received "
            f"{episode.observation[k, i]:.6g}"
        )


def require_time(log: Log, episode: Episode) -> None:
    """Raise LogError unless time goes on, in the median by the contract's period."""
    result, contract = episode.result, log.info.contract
    periods = np.diff(episode.now_s)
    if len(periods) and not (periods > 0.0).all():
        k = int((~(periods > 0.0)).argmax())
        raise LogError(
            f"{log.path}: episode {result.episode}, step {k + 1}: its time should be after that of "
            f"the step before, {episode.now_s[k]:.6g} s, received {episode.now_s[k + 1]:.6g} s"
        )
    usual = float(np.median(periods)) if len(periods) else contract.period_s
    if abs(usual - contract.period_s) > PERIOD_TOLERANCE * contract.period_s:
        raise LogError(
            f"{log.path}: episode {result.episode}: a period should last {contract.period_s:g} s, "
            f"as the contract says, received {usual:.4g} s in the median"
        )


def whole_rows(episode: Episode, signals: Collection[str]) -> int:
    """Return how many rows come before the first reading that is not finite.

    A robot may report NaN, and is stopped then.
    """
    rows = len(episode.observation)
    for array in _readings(episode, signals).values():
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(array).all(axis=1))
        rows = min(rows, len(finite) if finite.all() else int(finite.argmin()))
    return rows


def require_possible(log: Log, episode: Episode, signals: Collection[str]) -> None:
    """Raise LogError if a reading is a number that no robot reports."""
    for name, array in _readings(episode, signals).items():
        most = np.abs(array[np.isfinite(array)]).max(initial=0.0)
        if most > LARGEST:
            raise LogError(
                f"{log.path}: episode {episode.result.episode}: {name} should be within "
                f"{LARGEST:g} in SI units, received {most:g}"
            )


def _readings(episode: Episode, signals: Collection[str]) -> dict[str, Array]:
    logged = {name: episode.signals[name] for name in signals if name in episode.signals}
    return {"observation": episode.observation, **logged}
