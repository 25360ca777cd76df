"""Logs for tests of pages: ordinary ones, and one that nobody should believe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult, RunInfo
from holdfast.log.writer import Recorder, Tick
from holdfast.robot import config as configs
from holdfast.safety_monitor.messages import Check, Reading, Reason, State
from tests.helpers.data.recordings import SOURCES, info, tick

SENTENCE = "position (3.010, 0.120) m is outside the geofence"
CODE = "outside_geofence"
EVIL = "<script>window.owned=1</script><img src=x onerror='window.owned=2'>"


def drive_info(**changes: object) -> RunInfo:
    """What a run of the robot `drive` says at its start, with its own limits."""
    limits = configs.load(configs.find("drive")).monitor.to_plain()
    identity = {"robot": "drive", "hardware_id": "twin-1"}
    return info(**{"limits": limits, "identity": identity, **changes})


def with_scan(**changes: object) -> RunInfo:
    """The same, with a lidar in a message stream of its own."""
    return drive_info(sources={**SOURCES, "lidar": {"scan": 36}}, **changes)


def circling(episode: int, step: int, scan: bool = False) -> Tick:
    """A period in which the robot drives a circle, at a cost on a part of it."""
    one, angle = tick(episode, step), 0.04 * step
    position = np.array([0.95 * np.sin(angle), 0.95 * np.cos(angle)])
    signals = {**one.sources["robot"].signals, "position": position, "heading": np.array([-angle])}
    sources = {"robot": dataclasses.replace(one.sources["robot"], signals=signals)}
    if scan:
        ranges = 1.0 + 0.5 * np.cos(np.arange(36) / 3.0)
        sources["lidar"] = Reading(one.now_s - 0.03, step, {"scan": ranges})
    verdict = one.verdict._replace(
        costs=(float(step > 0 and abs(position[0]) > 0.9),), state=State.ACTIVE, reasons=()
    )
    return dataclasses.replace(one, sources=sources, verdict=verdict)


def stopping(one: Tick, code: str = CODE, text: str = SENTENCE) -> Tick:
    """The period in which the monitor stops the robot."""
    reasons = (Reason(Check.ENVELOPE, code, State.STOPPED, text),)
    verdict = one.verdict._replace(state=State.STOPPED, reasons=reasons, action=np.zeros(2))
    return dataclasses.replace(one, verdict=verdict, final=True)


def record(
    folder: Path, about: RunInfo | None = None, steps: int = 120, cost_to_go: float | None = None
) -> Recorder:
    """Record a completed episode and one that is stopped; the log is left open."""
    about = about or drive_info()
    log, scan = Recorder(folder, about), "lidar" in about.sources
    for episode, ended in enumerate((COMPLETED, STOPPED)):
        spent = 0.0
        for step in range(steps + 1):
            one = circling(episode, step, scan)
            if cost_to_go is not None:
                one = dataclasses.replace(one, cost_to_go=np.array([cost_to_go]))
            spent += one.verdict.costs[0]
            last = step == steps
            log.step(stopping(one) if last and ended == STOPPED else one)
        end = (STOPPED, CODE, SENTENCE) if ended == STOPPED else (COMPLETED, "", "")
        now_s = 100.0 + 1000.0 * episode + 0.05 * steps
        log.episode(now_s, EpisodeResult(episode, steps, (spent,), 3, 1, *end, 0.5 * steps))
    return log


def hostile(folder: Path) -> Recorder:
    """Record a run whose every text is a program, and whose numbers are no numbers."""
    about = drive_info(
        run=EVIL,
        identity={"robot": EVIL, "hardware_id": EVIL, "lockstep": EVIL},
        versions={EVIL: EVIL},
    )
    log, rng = Recorder(folder, about), np.random.default_rng(0)
    odd = (np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0, 5e-324)
    for step in range(60):
        one = circling(0, step)
        signals = {
            name: rng.choice(odd, value.shape)
            for name, value in one.sources["robot"].signals.items()
        }
        reasons = (Reason(Check.ENVELOPE, EVIL, State.LIMITED, EVIL),)
        verdict = one.verdict._replace(
            action=rng.choice(odd, 2),
            costs=(float(rng.choice(odd)),),
            reasons=reasons,
            state=int(rng.integers(0, 256)),  # type: ignore[arg-type]
        )
        sources = {"robot": Reading(float(rng.choice(odd)), step, signals)}
        with np.errstate(invalid="ignore"):  # the sine of infinity
            log.step(dataclasses.replace(one, sources=sources, verdict=verdict))
    log.event(1.0, "stop", EVIL, EVIL)
    log.episode(1.0, EpisodeResult(0, 60, (float("nan"),), 0, 0, STOPPED, EVIL, EVIL))
    return log
