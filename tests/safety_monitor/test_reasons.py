"""The table of reasons: each row is complete, each use fills its sentence, each question is asked
of it."""

import ast
import string
from pathlib import Path

import pytest

from holdfast.safety_monitor import Check, Reason, State, reasons
from holdfast.safety_monitor.reasons import TABLE, Kind, find

FOLDER = Path(__file__).parents[2] / "safety_monitor"
ROWS = {name: row for name, row in vars(reasons).items() if isinstance(row, Kind)}


def fields(kind):
    texts = kind.code + kind.sentence
    return {name for _, name, _, _ in string.Formatter().parse(texts) if name is not None}


@pytest.mark.parametrize("kind", TABLE.values(), ids=TABLE)
def test_a_row_is_complete(kind):
    assert TABLE[kind.code] is kind
    assert kind.states == tuple(sorted(set(kind.states), reverse=True))
    assert State.ACTIVE not in kind.states
    assert kind.when.endswith(".")
    assert kind.when[0].isupper() or kind.when[0] == "`"
    assert kind.sentence
    assert not kind.sentence.endswith(".")


def uses():
    """Yield each call of a row by name in the monitor: the row's name, and the call."""
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ROWS:
                yield node.func.id, node


def test_every_use_gives_the_values_of_its_sentence_and_a_state_where_there_are_two():
    used = {}
    for name, call in uses():
        kind = used[name] = ROWS[name]
        assert {keyword.arg for keyword in call.keywords} == fields(kind), name
        assert len(call.args) == (len(kind.states) > 1), name
    said_otherwise = {"POSE_FROZEN", "VELOCITY_FROZEN"}  # by `Frozen`, which holds them
    outside = {name for name, row in ROWS.items() if row.sentence == "{text}"}
    assert used.keys() | said_otherwise | outside | {"UNKNOWN"} == ROWS.keys()


def test_what_stops_from_outside_has_rows():
    outside = {code for code, row in TABLE.items() if row.sentence == "{text}"}
    assert outside == {
        *("device_fault", "proposer_fault", "link_lost", "run_failed", "robot_refused"),
        *("log_lost", "not_ready", "evidence_lost", "interrupted", "disarmed"),
    }


def test_what_ends_an_episode_and_what_ends_a_run():
    assert {Check.ENVELOPE, Check.BUDGET, Check.FAMILIARITY} == reasons.OF_THE_EPISODE


def test_a_code_that_ends_as_another_one_is_another_one():
    assert find("interrupted") is TABLE["interrupted"]
    assert find("twice_interrupted") is reasons.UNKNOWN


def test_a_row_makes_a_reason():
    assert reasons.CLOCK_BACKWARDS(back_s=0.25) == Reason(
        Check.FRESH, "clock_backwards", State.STOPPED, "the clock went back by 0.250 s"
    )
    assert reasons.UNFAMILIAR(State.FALLBACK, total=16.0, threshold=8.0) == Reason(
        Check.FAMILIARITY,
        "unfamiliar",
        State.FALLBACK,
        "observations have been unlike those of training: 16.0, ordinary up to 8.0",
    )
    assert reasons.UNFAMILIAR(total=9.0, threshold=8.0).state is State.FALLBACK  # when in doubt


def test_a_signal_s_name_is_part_of_its_code():
    reason = reasons.NOT_TRACKING(State.STOPPED, signal="yaw_rate", lasted_s=0.5)
    assert (reason.code, reason.state) == ("yaw_rate_not_tracking", State.STOPPED)
    assert reason.text == "yaw_rate has not followed its command for 0.50 s"


@pytest.mark.parametrize("kind", TABLE.values(), ids=TABLE)
def test_every_code_is_found(kind):
    assert find(kind.code.format(signal="yaw_rate")) is kind


def test_a_code_that_is_not_known_speaks_against_the_robot():
    for code in ("", "e_stop", "yaw_rate", "exceeded", "forward_speed_exceeded_twice"):
        kind = find(code)
        assert kind is reasons.UNKNOWN
        assert kind.against is reasons.ROBOT
        assert kind.doubts_what_was_seen


def codes(asked):
    return {code for code, kind in TABLE.items() if asked(kind)}


def test_only_the_policy_and_its_cost_are_recovered_from():
    """A recovery may drive in FALLBACK; what allows FALLBACK and is not here forbids that."""

    def recoverable(kind):
        return State.FALLBACK in kind.states and kind.leaves_recovery

    assert codes(recoverable) == {
        *("proposal_missing", "proposal_stale", "slowdown_budget", "unfamiliar")
    }


def test_what_says_nothing_against_an_observation():
    assert codes(lambda kind: not kind.doubts_what_was_seen) == {
        "episode_cap_spent",
        "slowdown_budget",
        "mean_cost_exceeded",
        "episode_cap_often_hit",
        "unfamiliar",
        "power_on",
        "fallback_ended",
        "released",
        "wrong_state",
        "proposal_not_zero",
        "proposer_fault",
        "evidence_lost",
        "interrupted",
        "disarmed",
        "log_lost",
    }


def test_what_stops_from_outside_is_in_the_table():
    outside = codes(lambda kind: kind.sentence == "{text}")
    assert {"device_fault", "proposer_fault", "link_lost", "run_failed", "interrupted"} <= outside
    obeyed = {code for code in outside if find(code).against is not reasons.ROBOT}
    assert obeyed == {"proposer_fault", "interrupted", "disarmed", "log_lost", "evidence_lost"}
