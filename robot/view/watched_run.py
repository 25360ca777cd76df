"""A run as its log tells it so far, as JSON data for the page. A running run's log grows."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError, ContractError
from holdfast.expressions import places
from holdfast.log.evidence import count
from holdfast.log.format import NO_STEP, STOPPED, EpisodeResult, RunInfo, signal_sizes
from holdfast.log.reader import Event, Follower, News
from holdfast.robot.view import sentences
from holdfast.robot.view.numbers import columns, plain_numbers
from holdfast.robot.view.watched import Watched, age_s
from holdfast.safety_monitor.budget import Budget
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import State

RUNNING = "running"
"""The end of an episode whose end the log does not hold yet."""

BEFORE_A_STOP_S = 10.0
MOST_ROWS = 4000
"""Largest number of periods in one answer; of more, every second, third, … is sent."""

CELLS = 240
"""Rows and columns of the places without a cost, in one answer."""

FARTHEST_M = 1e6
"""Largest coordinate of a place that a page may ask for."""

TAIL_ROWS = 1500
"""Number of periods that a page is given at its start: half a minute at 50 Hz."""


class WatchedRun(Watched):
    """Reads a log, and answers what the page asks.

    Args:
        path: the run's directory or its file.

    Raises:
        LogError: there is no log at the path.
    """

    page = Path(__file__).with_name("watch.html")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._follower = Follower(path)
        self._heard_s = time.monotonic() - age_s(self._follower.paths[-1])
        self._info: RunInfo | None = None
        self._limits: Limits | None = None
        self._evidence: Evidence | None = None
        self._steps: NDArray[Any] = np.empty(0)
        self._count = 0
        self._spent: list[tuple[float, ...]] = []
        self._predicted: list[tuple[float, ...]] = []
        self._reasons: list[list[int]] = []
        self._codes: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._stops: list[dict[str, Any]] = []
        self._by_number: dict[int, dict[str, Any]] = {}

    # Reading.

    def look(self) -> bool:
        """Read what the log holds beyond what was read; return whether there was something."""
        unfinished = self._follower.unfinished
        news = self._follower.news()
        if news is None:
            return unfinished != self._follower.unfinished
        with self.changed:
            self._heard_s = time.monotonic() - age_s(self._follower.paths[-1])
            self._add(news)
        return True

    def _add(self, news: News) -> None:
        if self._info is None:
            assert self._follower.info is not None
            self._begin(self._follower.info)
        events, first = list(news.events), self._count
        self._append(news.steps)
        for k, row in enumerate(range(first, self._count)):
            fell = row > 0 and int(self._steps["state"][row - 1]) == State.READY
            while events and events[0].before <= row:
                event = events.pop(0)
                self._add_event(event)
                fell &= event.name != "stop"
            self._add_row(row, news.reasons[k], fell)
        for event in events:
            self._add_event(event)
        for result in news.results.values():
            self._end_episode(result)

    def _begin(self, info: RunInfo) -> None:
        try:
            limits: Limits | None = Limits.from_mapping(info.limits)
        except ConfigError:  # limits of an older or a newer Holdfast: the page goes without
            limits = None
        contract, margin, slowdown = info.contract, None, None
        if limits is not None:
            slowdown = limits.budget.slowdown_budget
            if info.prediction is not None:
                margin = info.prediction.margin(limits.budget.episode_coverage)
        largest = CostModel(contract).largest
        self._budget = Budget(contract, largest, info.episode_cap, slowdown, margin)
        if info.evidence is not None:
            evidence = Evidence(contract, info.episode_cap)
            evidence.restore(info.evidence)
            self._evidence, self._enough = evidence, -math.log(info.evidence["alpha"])
        self._place: dict[str, slice] = {}
        start = 0
        for (_, name), size in signal_sizes(info.sources).items():
            self._place.setdefault(name, slice(start, start + size))
            start += size
        self._info, self._limits = info, limits  # last: a page is told of a run that has begun

    def _append(self, rows: NDArray[Any]) -> None:
        if not len(rows):
            return
        used, self._count = self._count, self._count + len(rows)
        if self._count > len(self._steps):
            grown = np.empty(max(2 * len(self._steps), self._count, 1024), rows.dtype)
            if used:
                grown[:used] = self._steps[:used]
            self._steps = grown
        self._steps[used : self._count] = rows

    def _add_row(self, row: int, codes: tuple[str, ...], fell: bool) -> None:
        assert self._info is not None
        step = self._steps[row]
        number, at = int(step["episode"]), int(step["step"])
        if at != NO_STEP and number not in self._by_number:
            self._begin_episode(number, row)
        predicted: tuple[float, ...] = (math.nan,) * len(self._budget.names)
        if at != NO_STEP:
            self._budget.add(step["costs"].tolist())
            left = max(self._info.contract.episode_steps - at, 0)
            to_come = step["cost_to_go"].tolist() if self._info.critics else None
            predicted = self._budget.judge_episode(to_come, left, [])
            episode = self._by_number[number]
            episode["last"] = row + 1
            episode["steps"] = at
            episode["costs"] = self._budget.spent
            episode["interventions"] += int(step["intervened"])
        self._spent.append(self._budget.spent)
        self._predicted.append(predicted)
        self._reasons.append([self._codes.setdefault(code, len(self._codes)) for code in codes])
        if fell and int(step["state"]) == State.STOPPED and at == NO_STEP:
            self._add_stop(row, None, codes[0] if codes else "", "")

    def _begin_episode(self, number: int, row: int) -> None:
        self._budget.begin()
        episode = {
            "number": number, "first": row, "last": row + 1, "steps": 0, "costs": [],
            "interventions": 0, "deadline_misses": 0, "ended": RUNNING, "code": "", "text": "",
            "return": None,
        }  # fmt: skip
        self._by_number[number] = episode
        self._episodes.append(episode)

    def _add_event(self, event: Event) -> None:
        if event.name == "begin_episode":
            self._budget.begin()
        row = min(event.before, self._count) - 1
        armed = row >= 0 and int(self._steps["step"][row]) != NO_STEP
        if event.name == "stop" and not armed:  # an armed robot's stop ends its episode
            self._add_stop(max(row, 0), None, event.code, event.text)

    def _end_episode(self, result: EpisodeResult) -> None:
        episode = self._by_number.get(result.episode)
        if episode is None or episode["ended"] != RUNNING:
            return
        total = result.reward_return
        known = {name: getattr(result, name) for name in ("steps", "interventions", "ended")}
        episode.update(known, deadline_misses=result.deadline_misses, code=result.code)
        episode["costs"] = result.costs
        episode["text"] = result.text
        episode["return"] = None if total is None else plain_numbers(np.array(total))
        if result.ended == STOPPED:
            self._add_stop(episode["last"] - 1, result.episode, result.code, result.text)
        if self._evidence is not None:
            try:
                count(self._evidence, result)
            except ContractError:  # costs that no episode can have: nothing is evident by them
                self._evidence = None

    def _add_stop(self, row: int, episode: int | None, code: str, text: str) -> None:
        first = row
        if self._count:
            times = self._steps["now_s"]
            while first > 0 and 0.0 <= times[row] - times[first - 1] <= BEFORE_A_STOP_S:
                first -= 1
        about = sentences.described(code)
        self._stops.append({
            "row": row, "first": first, "episode": episode, "code": code,
            "text": text or about["when"], "against": about["against"],
            "release": sentences.release(State.STOPPED, code, self._limits),
            "unix_s": self._unix_s(row),
        })  # fmt: skip

    def _unix_s(self, row: int) -> float | None:
        assert self._info is not None
        if not self._info.clock_offset_s or row >= self._count:
            return None
        seconds = float(self._steps["now_s"][row]) + self._info.clock_offset_s
        return seconds if math.isfinite(seconds) else None

    # Answers, as JSON data.

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what a page is told: first all, then what is new, or that nothing is.

        Each has `status`; and where there is more `about`, `rows`, `episodes` with the position of
        the first of them, `stops` and `codes`.
        """
        about: dict[str, Any] | None = None
        sent: int | None = None
        episodes = stops = codes = 0
        for _ in self.changes():
            status = self.status()
            message: dict[str, Any] = {"status": status}
            if about is None:
                about = message["about"] = self.about()
            if about is not None:
                count = status["rows"]
                sent = max(count - TAIL_ROWS, 0) if sent is None else sent
                if count > sent:
                    message["rows"] = self.rows(max(sent, count - TAIL_ROWS), count)
                    sent = count
                first = max(episodes - 1, 0)  # the last one may have changed
                new = self.outline(first, stops, codes)
                message |= {"episodes_from": first, **new}
                episodes = first + len(new["episodes"])
                stops += len(new["stops"])
                codes += len(new["codes"])
            yield message

    def answer(self, path: str, query: Mapping[str, list[str]]) -> dict[str, Any] | None:
        """Return the periods that `/rows?first=…&last=…` asks for, or the places that
        `/places?left=…&bottom=…&right=…&top=…` does."""
        if path == "/places":
            return self._places(query)
        if path != "/rows":
            return None
        try:
            first, last = (int(query[name][0][:12]) for name in ("first", "last"))
        except (KeyError, ValueError):
            raise ValueError("first and last should be whole numbers") from None
        return self.rows(first, last)

    def _places(self, query: Mapping[str, list[str]]) -> dict[str, Any] | None:
        """Return at which places no cost is billed that depends on the position alone.

        `free` has rows from the bottom to the top, of "1" where a place is free; it is null where
        no cost depends on the position alone.
        """
        names = ("left", "bottom", "right", "top")
        try:
            box = left, bottom, right, top = [float(query[name][0][:24]) for name in names]
        except (KeyError, ValueError):
            raise ValueError(f"{', '.join(names)} should be numbers") from None
        if not (
            -FARTHEST_M <= left < right <= FARTHEST_M and -FARTHEST_M <= bottom < top <= FARTHEST_M
        ):
            raise ValueError(f"left to right and bottom to top should be within {FARTHEST_M:g} m")
        with self.changed:
            info = self._info
        if info is None:
            return None
        middles = (np.arange(CELLS) + 0.5) / CELLS
        x, y = left + (right - left) * middles, bottom + (top - bottom) * middles
        billed = places.billed(info.contract, np.stack(np.meshgrid(x, y), axis=-1))
        free = (
            None if billed is None else ["".join("01"[not each] for each in row) for row in billed]
        )
        return {**dict(zip(names, box, strict=True)), "free": free}

    def about(self) -> dict[str, Any] | None:
        """Return the settings of the run; None until they were read."""
        with self.changed:
            info, limits = self._info, self._limits
        if info is None:
            return None
        checks = {} if limits is None else limits.checks
        fence, body = checks.get("geofence"), checks.get("obstacles")
        contract = info.contract
        return {
            "run": info.run,
            "name": _name(self._follower.paths[0], info.run),
            "robot": contract.robot,
            "hardware_id": str(info.identity.get("hardware_id", "")),
            "lockstep": info.identity.get("lockstep") is True,
            "task": contract.task,
            "period_s": contract.period_s,
            "episode_steps": contract.episode_steps,
            "critics": info.critics,
            "exploring": info.exploring,
            "seed": info.seed,
            "bundle_hash": info.bundle_hash,
            "contract_hash": contract.hash,
            "sources": list(info.sources),
            "costs": [
                {"name": cost.name, "limit": cost.limit, "cap": cap}
                for cost, cap in zip(contract.costs, self._budget.cap, strict=True)
            ],
            "actions": [
                {"name": each.name, "unit": each.unit, "low": each.low, "high": each.high}
                for each in contract.action
            ],
            "fence": None if fence is None else asdict(fence),
            "farthest_m": FARTHEST_M,
            "radius_m": None if body is None else body.footprint_radius_m,
            "limits_known": limits is not None,
            "states": [
                {
                    "name": state.name,
                    "meaning": text,
                    "release": sentences.release(state, "", limits),
                }
                for state, text in sorted(sentences.MEANING.items())
            ],
        }

    def status(self) -> dict[str, Any]:
        """Return how far the log was read, and how long ago something new came."""
        with self.changed:
            return {
                "rows": self._count,
                "over": not self._follower.unfinished and not self._follower.tear,
                "tear": "" if self._follower.unfinished else self._follower.tear,
                "problem": self.problem,
                "quiet_s": round(time.monotonic() - self._heard_s, 3),
                "evidence": self._evidence_data(),
            }

    def _evidence_data(self) -> list[dict[str, Any]] | None:
        if self._evidence is None:
            return None
        enough = self._enough
        return [
            {
                "name": cost.name,
                "episodes": self._evidence.episodes,
                "mean": cost.total / self._evidence.episodes if self._evidence.episodes else None,
                **{
                    name: {
                        "share": round(min(max(process.log_evidence / enough, 0.0), 1.0), 4),
                        "reached_at": process.reached_at,
                    }
                    for name, process in (
                        ("exceeds", cost.exceeds), ("keeps", cost.keeps), ("capped", cost.capped),
                    )
                },
            }
            for cost in self._evidence.costs
        ]  # fmt: skip

    def outline(self, episodes: int, stops: int, codes: int) -> dict[str, Any]:
        """Return the episodes, stops and reasons from these positions on."""
        with self.changed:
            return {
                "episodes": [
                    {**each, "costs": plain_numbers(np.array(each["costs"]))}
                    for each in self._episodes[episodes:]
                ],
                "stops": self._stops[stops:],
                "codes": [sentences.described(code) for code in list(self._codes)[codes:]],
            }

    def rows(self, first: int, last: int) -> dict[str, Any]:
        """Return periods first to last - 1 by column; null where a number is not finite."""
        with self.changed:
            last = min(last, self._count)
            first = max(min(first, last), 0)
            stride = max(-(-(last - first) // MOST_ROWS), 1)
            pick = slice(first, last, stride)
            steps, reasons = self._steps[pick], self._reasons[pick]
            spent, predicted = self._spent[pick], self._predicted[pick]
        data: dict[str, Any] = {"first": first, "last": last, "stride": stride}
        if not len(steps):
            return data
        now_s = steps["now_s"]
        costs = len(self._budget.names)
        data |= {
            "t": plain_numbers(now_s, 4),
            "episode": steps["episode"].tolist(),
            "step": steps["step"].tolist(),
            "state": steps["state"].tolist(),
            "intervened": steps["intervened"].astype(int).tolist(),
            "reasons": reasons,
            "proposed": columns(steps["proposed"]),
            "applied": columns(steps["applied"]),
            "costs": columns(steps["costs"]),
            "spent": columns(np.array(spent).reshape(-1, costs)),
            "predicted": columns(np.array(predicted).reshape(-1, costs)),
            "ages": columns(now_s[:, None] - steps["signal_stamps_s"]),
            "proposal_age": plain_numbers(now_s - steps["proposal_stamp_s"], 4),
        }
        for name in ("position", "heading"):
            if name in self._place:
                data[name] = columns(steps["signals"][:, self._place[name]])
        if "scan" in self._place:
            data["scan"] = plain_numbers(steps["signals"][:, self._place["scan"]], 2)
        return data


def _name(log: Path, run: str) -> str:
    """Return a run's name with the folder around the run's own: many a run is called "log"."""
    around = Path(os.path.abspath(log)).parent.parent.name
    return run if around in ("", "runs") else f"{around}/{run}"
