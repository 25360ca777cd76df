import math

import pytest
from monitor_rig import LIMITS, codes, limits, seen, states

from holdfast.safety_monitor import Check, Reading, State
from holdfast.safety_monitor.freshness import Freshness, Stream
from holdfast.safety_monitor.reasons import PROPOSAL, SOURCE

FRESHNESS = LIMITS.freshness
UP = math.inf
KINDS = {
    "source": (FRESHNESS.source_max_age_s, FRESHNESS.source_lost_s),
    "proposal": (FRESHNESS.proposal_max_age_s, FRESHNESS.proposal_lost_s),
}


def judged(stream, now_s, stamp_s, sequence, moving=True):
    reasons = []
    stream.judge(now_s, stamp_s, sequence, moving, reasons)
    return reasons


@pytest.mark.parametrize("kind", KINDS)
def test_age_at_each_limit(kind):
    (max_age_s, lost_s), early_s = KINDS[kind], FRESHNESS.future_tolerance_s
    stream = Stream({"source": SOURCE, "proposal": PROPOSAL}[kind], "base", FRESHNESS)
    for age_s, moving, expected in (
        (0.0, True, {}),
        (max_age_s, True, {}),
        (math.nextafter(max_age_s, 1), True, {f"{kind}_stale": State.FALLBACK}),
        (lost_s, True, {f"{kind}_stale": State.FALLBACK}),
        (math.nextafter(lost_s, 1), True, {f"{kind}_lost": State.STOPPED}),
        (math.nextafter(lost_s, 1), False, {f"{kind}_stale": State.FALLBACK}),
        (1e9, False, {f"{kind}_stale": State.FALLBACK}),
        (-early_s, True, {}),
        (math.nextafter(-early_s, -1), True, {f"{kind}_future": State.STOPPED}),
        (math.nextafter(-early_s, -1), False, {f"{kind}_future": State.STOPPED}),
    ):
        reasons = judged(stream, age_s, 0.0, 1, moving)
        assert states(reasons) == expected, age_s
        assert all(reason.check is Check.FRESH for reason in reasons)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_stamp_or_a_clock_that_is_no_number(value):
    stream = Stream(SOURCE, "base", FRESHNESS)
    for now_s, stamp_s in ((1.0, value), (value, 1.0)):
        (reason,) = judged(stream, now_s, stamp_s, 1)
        assert (reason.code, reason.state) == ("source_stamp_not_finite", State.STOPPED)
        assert reason.check is Check.FINITE


def test_a_repeated_message_is_ordinary():
    stream = Stream(SOURCE, "base", FRESHNESS)
    stream.accept(1.0, 7)
    assert judged(stream, 1.1, 1.0, 7) == []


@pytest.mark.parametrize(
    ("stamp_s", "sequence"),
    [(1.05, 7), (0.95, 7), (1.05, 6), (1.0, 6), (math.nextafter(1.0, 0.0), 8)],
)
def test_messages_out_of_order(stamp_s, sequence):
    stream = Stream(SOURCE, "base", FRESHNESS)
    stream.accept(1.0, 7)
    (reason,) = judged(stream, 1.1, stamp_s, sequence)
    assert (reason.code, reason.state) == ("source_out_of_order", State.STOPPED)
    assert reason.check is Check.FRESH
    assert reason.text == (
        f"base has sequence {sequence} stamped {stamp_s} after sequence 7 stamped 1.0"
    )


@pytest.mark.parametrize("stamp_s", [1.0, 1.05])
def test_the_next_message_may_share_its_stamp(stamp_s):
    stream = Stream(SOURCE, "base", FRESHNESS)
    stream.accept(1.0, 7)
    assert judged(stream, 1.1, stamp_s, 8) == []


def test_skipped_at_the_limit():
    stream = Stream(SOURCE, "base", limits(max_skipped=3).freshness)
    stream.accept(1.0, 7)
    assert judged(stream, 1.1, 1.05, 11) == []
    (reason,) = judged(stream, 1.1, 1.05, 12)
    assert (reason.code, reason.state) == ("source_skipped", State.LIMITED)
    assert reason.text == "base lost 4 messages at once"


def test_what_was_out_of_order_is_the_new_baseline():
    stream = Stream(PROPOSAL, "", FRESHNESS)
    stream.accept(1.0, 70)
    assert states(judged(stream, 1.05, 1.05, 0)) == {"proposal_out_of_order": State.STOPPED}
    stream.accept(1.05, 0)
    assert judged(stream, 1.1, 1.1, 1) == []


def test_a_stamp_that_is_no_number_is_no_baseline():
    stream = Stream(SOURCE, "base", FRESHNESS)
    stream.accept(1.0, 7)
    stream.accept(math.nan, 9)
    assert judged(stream, 1.1, 1.05, 8) == []


def test_judging_remembers_nothing():
    stream = Stream(SOURCE, "base", FRESHNESS)
    judged(stream, 1.0, 1.0, 5)
    assert judged(stream, 1.0, 0.9, 4) == []


def test_several_faults_at_once_are_all_named():
    stream = Stream(SOURCE, "base", FRESHNESS)
    stream.accept(1.0, 7)
    assert set(states(judged(stream, 9.0, 1.05, 7))) == {"source_lost", "source_out_of_order"}


def test_texts_name_the_sender_and_the_age():
    stream = Stream(SOURCE, "lidar", FRESHNESS)
    assert judged(stream, 1.3, 1.0, 1)[0].text == "lidar is 0.300 s old"
    assert judged(stream, 1.6, 1.0, 1)[0].text == "lidar is 0.600 s old while moving"
    assert judged(stream, 1.0, 1.5, 1)[0].text == "lidar is 0.500 s ahead of the clock"
    assert judged(stream, 1.0, math.nan, 1)[0].text == "lidar is stamped nan"


# The clock.


def test_a_source_is_doubted_whose_reading_is_old_and_not_one_that_only_lost_messages():
    freshness = Freshness(FRESHNESS, LIMITS.motion)
    told = seen(1.0)
    for name in ("old", "gappy", "fine"):
        told.sources[name] = Reading(1.0, 1, {})
    freshness.judge(told)
    freshness.accept(told)
    later = seen(2.0)
    later.sources |= {
        "old": Reading(1.0 + 1e-6, 1000, {}),
        "gappy": Reading(2.0, 1000, {}),
        "fine": Reading(2.0, 2, {}),
    }
    freshness.judge(later)
    codes = [reason.code for reason in later.reasons]
    assert codes.count("source_skipped") == 2
    assert later.doubted == ["old"]


def at(now_s, moving):
    """Return what is said of a clock that said 10 before."""
    freshness = Freshness(FRESHNESS, LIMITS.motion)
    freshness.start(10.0)
    told = seen(now_s, state=State.ACTIVE if moving else State.STOPPED)
    freshness.judge(told)
    assert told.reasons.pop().code == "proposal_missing"
    return told.reasons


@pytest.mark.parametrize(
    ("now_s", "moving", "expected"),
    [
        (10.0, True, set()),
        (10.5, True, set()),
        (math.nextafter(10.5, UP), True, {"step_late"}),
        (math.nextafter(10.5, UP), False, set()),
        (math.nextafter(10.0, 0), True, {"clock_backwards"}),
        (math.nextafter(10.0, 0), False, {"clock_backwards"}),
        (math.nan, False, {"clock_not_finite"}),
        (math.inf, True, {"clock_not_finite"}),
        (-math.inf, True, {"clock_not_finite"}),
    ],
)
def test_the_clock(now_s, moving, expected):
    reasons = at(now_s, moving)
    assert codes(reasons) == expected
    for reason in reasons:
        assert reason.state is State.STOPPED
        assert reason.check is (Check.FINITE if reason.code == "clock_not_finite" else Check.FRESH)


def test_the_clock_s_texts():
    for now_s, moving, text in (
        (9.5, True, "the clock went back by 0.500 s"),
        (12.0, True, "the monitor did not run for 2.000 s"),
        (math.nan, True, "the clock says nan"),
    ):
        reasons = at(now_s, moving)
        assert [reason.text for reason in reasons] == [text]
