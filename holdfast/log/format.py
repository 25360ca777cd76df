"""The content of a run's log: topics, message definitions, and the settings at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from holdfast.contract import Contract, Cost
from holdfast.errors import LogError
from holdfast.log import messages
from holdfast.log.cdr import Layout
from holdfast.plain import from_json
from holdfast.safety_monitor.familiarity import Familiarity
from holdfast.safety_monitor.prediction import Prediction
from holdfast.schema import MismatchError, Range, build, to_plain

FORMAT = "6"
WITHOUT_RETURN = ("5",)
"""Older formats that are read, and are alike but for the return at an episode's end."""

PROGRESS = "progress.jsonl"
"""Name of the file with a training's records, a JSON object a line for each iteration."""

RUN_TOPIC = "holdfast/run"
STEP_TOPIC = "holdfast/step"
EVENT_TOPIC = "holdfast/event"
EPISODE_TOPIC = "holdfast/episode"
ODOM_TOPIC = "odom"
PROPOSED_TOPIC = "cmd_vel_proposed"
APPLIED_TOPIC = "cmd_vel"

MAX_SIGNAL = 100_000
"""Values of a signal; more than this is no robot's."""

NO_STEP = -1
"""The step number outside of episodes, when the robot is not armed."""

TIME = "builtin_interfaces/Time"

COMPLETED, STOPPED, TORN = "completed", "stopped", "torn"
"""The ways in which an episode ends; torn: the log does not hold the episode's end."""


RUN = messages.schema(
    """# What a run's log says once, at its start. Version 1.
builtin_interfaces/Time stamp
string info                    # a JSON object of texts, most of them JSON again
""",
    TIME,
)
STEP = messages.schema(
    """# One period of a run: what was seen, proposed and let through, and why. Version 1.
# holdfast/run names signals, costs, actions and observation channels in order.
builtin_interfaces/Time stamp  # now_s, on the wall clock
uint64 sequence                # rises by one with every step of the run; a gap was lost
uint32 episode                 # from 0
int32 step                     # number of the action in its episode; -1: not armed
bool final                     # last reading of its episode: bills the last action, sends none
float64 now_s                  # the run's clock
float64[] signal_stamps_s      # of each source, on the run's clock; NaN: it never spoke yet
uint64[] signal_sequences      # of each source
float64[] signals              # of all sources, one after another, SI units
bool proposal_present
float64 proposal_stamp_s       # on the run's clock; NaN without a proposal
uint64 proposal_sequence
float64[] observation
float64[] proposed             # physical units, not clipped; NaN without a proposal
float64[] applied              # what the monitor let through, physical units
float64 log_prob               # of the proposed action; NaN when the policy did not explore
float64[] costs                # billed at this step, for the action before it
float64[] cost_to_go           # predicted from here to the episode's end; NaN without critics
uint8 STOPPED=0
uint8 READY=1
uint8 FALLBACK=2
uint8 LIMITED=3
uint8 ACTIVE=4
uint8 state                    # the monitor's answer
bool intervened                # the monitor changed more than the contract's limits do
string contract_hash
string[] reasons               # the verdict's codes
""",
    TIME,
)
EVENT = messages.schema(
    """# What the run asked of the monitor between two steps. Version 1.
builtin_interfaces/Time stamp
float64 now_s
string name                    # begin_episode, reset, arm, disarm or stop
string code                    # of a stop, or of the first refusal
string text
""",
    TIME,
)
_RETURN = "float64 reward_return          # sum of the rewards; NaN where it is not known\n"
EPISODE = messages.schema(
    f"""# How an episode ended. Version 2.
builtin_interfaces/Time stamp
uint32 episode                 # from 0
uint32 steps                   # actions let through
uint32 interventions           # steps on which the monitor changed the action
uint32 deadline_misses
float64[] costs                # sums
{_RETURN}string ended                   # completed or stopped
string code                    # why it was stopped
string text
""",
    TIME,
)


def _standard(name: str) -> tuple[str, str]:
    """Return schema name and definition of a standard message, "package/Name"."""
    parts = messages.parts(name)
    return messages.full_name(name), messages.schema(messages.DEFINITIONS[name], *parts)


SCHEMAS: Mapping[str, tuple[str, str]] = {
    RUN_TOPIC: ("holdfast/msg/Run", RUN),
    STEP_TOPIC: ("holdfast/msg/Step", STEP),
    EVENT_TOPIC: ("holdfast/msg/Event", EVENT),
    EPISODE_TOPIC: ("holdfast/msg/Episode", EPISODE),
    ODOM_TOPIC: _standard("nav_msgs/Odometry"),
    PROPOSED_TOPIC: _standard("geometry_msgs/TwistStamped"),
    APPLIED_TOPIC: _standard("geometry_msgs/TwistStamped"),
}
"""Schema name and definition of each topic."""


@dataclass(frozen=True)
class EpisodeResult:
    """The result of an episode.

    Attributes:
        steps: number of actions let through; costs: sums, in the contract's order.
        code, text: reason of the stop; empty if the episode was completed.
        reward_return: sum of the rewards by the contract's expression; None where the contract has
            none, where a step's reward was not known, and where the log does not hold the
            episode's end.
    """

    episode: int
    steps: int
    costs: tuple[float, ...]
    interventions: int
    deadline_misses: int
    ended: str
    code: str = ""
    text: str = ""
    reward_return: float | None = None


@dataclass(frozen=True)
class RunInfo:
    """The settings of a run, which a log holds once, at its start.

    Attributes:
        sources: signals of each of the monitor's sources with their sizes, by name.
        limits: the monitor's limits in force; episode_cap: episode caps in force, by cost name.
        familiarity, prediction: the bundle's, if the monitor used them.
        bundle_hash: "" for a run without a bundle. critics: the bundle has cost critics, and the
            monitor was told what they predict.
        evidence: the deployment's evidence before the run, if evidence is kept.
        identity: the robot's description of itself; versions: versions of the software that ran.
        clock_offset_s: Unix time minus the run's clock; 0 if the clock is a ROS graph's.
        format: the log's.
    """

    run: str
    contract: Contract
    bundle_hash: str
    critics: bool
    seed: int
    exploring: bool
    sources: Mapping[str, Mapping[str, Annotated[int, Range(1, MAX_SIGNAL)]]]
    limits: Mapping[str, Any]
    episode_cap: Mapping[str, float]
    familiarity: Familiarity | None
    prediction: Prediction | None
    evidence: Mapping[str, Any] | None
    identity: Mapping[str, Any]
    versions: Mapping[str, str]
    clock_offset_s: float
    format: str = FORMAT

    def to_json(self) -> str:
        """Return the text of the log's first message."""
        values = {k: v for k, v in to_plain(self).items() if k != "contract"}
        return json.dumps({
            "contract": self.contract.to_json(),
            "contract_hash": self.contract.hash,
            **{
                key: v if isinstance(v, str) else json.dumps(v, allow_nan=False)
                for key, v in values.items()
            },
        })  # fmt: skip

    @staticmethod
    def from_json(text: str) -> RunInfo:
        """Read the text of a log's first message.

        Raises:
            LogError: another format, an entry missing or malformed, an altered contract.
        """
        entries = _parsed("holdfast/run", text)
        if not isinstance(entries, dict) or not all(isinstance(v, str) for v in entries.values()):
            raise LogError("holdfast/run should be a JSON object of texts")
        if entries.get("format") not in (FORMAT, *WITHOUT_RETURN):
            raise LogError(f"log format should be {FORMAT}, received {entries.get('format')}")
        missing = [f.name for f in fields(RunInfo) if f.name not in entries]
        if missing:
            raise LogError(f"its metadata lacks '{missing[0]}'")
        texts = ("run", "bundle_hash", "format")
        data = {
            f.name: entries[f.name] if f.name in texts else _parsed(f.name, entries[f.name])
            for f in fields(RunInfo)
        }
        try:
            info = _as_it_ran(build(RunInfo, data, complete=True))
        except MismatchError as error:
            raise LogError(f"its metadata is malformed ({error.sentence('')})") from None
        if (total := sum(signal_sizes(info.sources).values())) > MAX_SIGNAL:
            raise LogError(
                f"its sources should have at most {MAX_SIGNAL} values in all, received {total}"
            )
        if info.contract.hash != entries.get("contract_hash"):
            raise LogError("its contract does not have the hash that it was logged under")
        return info


def _as_it_ran(info: RunInfo) -> RunInfo:
    """Return the settings of a run with what its limits left unsaid in its day."""
    budget = info.limits.get("budget")
    if not isinstance(budget, Mapping) or "on_prediction" in budget:
        return info
    # Until 2026-11-29 there was no choice: a robot was slowed.
    told = {**info.limits, "budget": {**budget, "on_prediction": "slow"}}
    return replace(info, limits=told)


def _parsed(name: str, text: str) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise LogError(f"its metadata is malformed ({name}: {error})") from None


def layout(topic: str, info: RunInfo) -> Layout:
    """Return the layout of a topic's messages in a run; frames are those of REP-105."""
    contract, sources = info.contract, info.sources
    actions, costs = contract.action_size, len(contract.costs)
    constants: Mapping[str, Mapping[str, int | str]] = {
        STEP_TOPIC: {
            "signal_stamps_s": len(sources),
            "signal_sequences": len(sources),
            "signals": sum(signal_sizes(sources).values()),
            "observation": contract.observation_size,
            "proposed": actions,
            "applied": actions,
            "costs": costs,
            "cost_to_go": costs,
            "contract_hash": contract.hash,
        },
        EPISODE_TOPIC: {"costs": costs},
        ODOM_TOPIC: {"header.frame_id": "odom", "child_frame_id": "base_link"},
        PROPOSED_TOPIC: {"header.frame_id": "base_link"},
        APPLIED_TOPIC: {"header.frame_id": "base_link"},
    }
    definition = SCHEMAS[topic][1]
    if info.format in WITHOUT_RETURN:
        definition = definition.replace(_RETURN, "")
    return Layout(definition, constants.get(topic, {}))


def signal_sizes(sources: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str], int]:
    """Return the size of each (source, signal), in the order in which a step holds them."""
    return {(source, name): size for source, s in sources.items() for name, size in s.items()}


def titled(contract: Contract) -> str:
    """Return what tells a contract from others in a sentence: hash, robot, task and limits d."""
    limits = ", ".join(_limit_text(cost) for cost in contract.costs)
    return f"{contract.hash[:12]} ({contract.robot}, {contract.task}, d = {limits})"


def _limit_text(cost: Cost) -> str:
    low, high = cost.limit_range or (cost.limit, cost.limit)
    return f"{low:g} to {high:g}" if low < high else f"{cost.limit:g}"
