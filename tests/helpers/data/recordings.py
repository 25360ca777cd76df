"""Records for tests of the log, made without a robot."""

from __future__ import annotations

import dataclasses

import numpy as np

from holdfast.bundle import reader as bundles
from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult, RunInfo
from holdfast.log.writer import Recorder, Tick
from holdfast.observer import Observer
from holdfast.safety_monitor.messages import (
    BudgetStatus,
    Check,
    Proposal,
    Reading,
    Reason,
    State,
    Verdict,
)
from holdfast.signals import Array, Signals
from tests.helpers.data.bundles import drive_contract

_CONTRACT = drive_contract()  # once: its expressions are parsed, and a log has thousands of ticks

SOURCES = {"robot": {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1, "tilt": 2}}


def info(**changes: object) -> RunInfo:
    """What a run with DriveCircle's contract says at its start."""
    fields: dict[str, object] = {
        "run": "run",
        "contract": drive_contract(),
        "bundle_hash": "b" * 64,
        "critics": True,
        "seed": 7,
        "exploring": True,
        "sources": SOURCES,
        "limits": {"source_max_age_s": 0.1},
        "episode_cap": {"outside_corridor": 30.0},
        "familiarity": None,
        "prediction": None,
        "evidence": None,
        "identity": {"robot": "drive"},
        "versions": {"holdfast": "0"},
        "clock_offset_s": 1_700_000_000.0,
    }
    # A test may change any field, so the values have no common type.
    return RunInfo(**{**fields, **changes})  # type: ignore[arg-type]


def tick(episode: int, step: int, final: bool = False, proposed: bool = True) -> Tick:
    """A period whose every value can be told from the episode's and the step's number."""
    now_s = 100.0 + 1000.0 * episode + 0.05 * step
    signals = {
        "position": np.array([step, -step], dtype=float),
        "heading": np.array([0.01 * step]),
        "forward_speed": np.array([0.2]),
        "yaw_rate": np.array([0.3]),
        "tilt": np.array([0.0, 0.1]),
    }
    reasons = (Reason(Check.BUDGET, "slowdown_budget", State.LIMITED, "text"),) * (step % 3)
    verdict = Verdict(
        action=np.array([0.001 * step, -0.5]),
        state=State.LIMITED if reasons else State.ACTIVE,
        reasons=reasons,
        budget=BudgetStatus((0.0,), (0.0,), (30.0,)),
        costs=(float(step > 0),),  # outside of the corridor, as x says
        intervened=step % 5 == 0,
    )
    return Tick(
        now_s=now_s,
        sources={"robot": Reading(now_s - 0.01, 40 + step, signals)},
        observation=_observed(_CONTRACT, signals, step),
        proposal=Proposal(now_s, step, np.array([0.5, 0.01 * step]), "hash") if proposed else None,
        log_prob=-1.0 - step,
        cost_to_go=np.array([2.0 * step]),
        verdict=verdict,
        episode=episode,
        step=step,
        final=final,
    )


def record_episode(
    log: Recorder, episode: int, steps: int, maker: Bundle | None = None, code: str = ""
) -> EpisodeResult:
    """Record an event, `steps` actions, the last reading and the end.

    Args:
        maker: says how probable its actions were, as what is learned from has to.
        code: of what stopped it; "": it was completed, as it has to be with the contract's steps.
    """
    log.event(100.0 + 1000.0 * episode, "arm")
    for step in range(steps + 1):
        one = tick(episode, step, final=step == steps)
        log.step(one if maker is None else _made_by(maker, one))
    ended = (STOPPED, code) if code else (COMPLETED,)
    result = EpisodeResult(episode, steps, (float(steps),), 0, 0, *ended)
    log.episode(100.0 + 1000.0 * episode + 0.05 * steps, result)
    return result


def _observed(contract: Contract, signals: Signals, step: int) -> Array:
    """What is no signal of the recording is the step's number."""
    others = {
        channel.signal: np.full(channel.signal_size, float(step))
        for channel in contract.observation
        if channel.signal not in signals
    }
    return Observer(contract)({**others, **signals})


def _made_by(maker: Bundle, one: Tick) -> Tick:
    assert one.proposal is not None
    observation = _observed(maker.contract, one.sources["robot"].signals, one.step)
    mean, log_std = maker.act(observation)
    log_prob = bundles.log_prob(one.proposal.action, mean, log_std, maker.contract)
    return dataclasses.replace(one, observation=observation, log_prob=log_prob)
