import math

import pytest
from monitor_rig import LIMITS, limits, states

from holdfast.safety_monitor import Check, State
from holdfast.safety_monitor.freshness import Freshness
from holdfast.safety_monitor.reasons import PROPOSAL, SOURCE

KINDS = {
    "source": (LIMITS.source_max_age_s, LIMITS.source_lost_s),
    "proposal": (LIMITS.proposal_max_age_s, LIMITS.proposal_lost_s),
}


def judged(stream, now_s, stamp_s, sequence, moving=True):
    reasons = []
    stream.judge(now_s, stamp_s, sequence, moving, reasons)
    return reasons


@pytest.mark.parametrize("kind", KINDS)
def test_age_at_each_limit(kind):
    max_age_s, lost_s = KINDS[kind]
    stream = Freshness({"source": SOURCE, "proposal": PROPOSAL}[kind], "base", LIMITS)
    for age_s, moving, expected in (
        (0.0, True, {}),
        (max_age_s, True, {}),
        (math.nextafter(max_age_s, 1), True, {f"{kind}_stale": State.FALLBACK}),
        (lost_s, True, {f"{kind}_stale": State.FALLBACK}),
        (math.nextafter(lost_s, 1), True, {f"{kind}_lost": State.STOPPED}),
        (math.nextafter(lost_s, 1), False, {f"{kind}_stale": State.FALLBACK}),
        (1e9, False, {f"{kind}_stale": State.FALLBACK}),
        (-LIMITS.future_tolerance_s, True, {}),
        (math.nextafter(-LIMITS.future_tolerance_s, -1), True, {f"{kind}_future": State.STOPPED}),
        (math.nextafter(-LIMITS.future_tolerance_s, -1), False, {f"{kind}_future": State.STOPPED}),
    ):
        reasons = judged(stream, age_s, 0.0, 1, moving)
        assert states(reasons) == expected, age_s
        assert all(reason.check is Check.FRESH for reason in reasons)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_stamp_or_a_clock_that_is_no_number(value):
    stream = Freshness(SOURCE, "base", LIMITS)
    for now_s, stamp_s in ((1.0, value), (value, 1.0)):
        (reason,) = judged(stream, now_s, stamp_s, 1)
        assert (reason.code, reason.state) == ("source_stamp_not_finite", State.STOPPED)
        assert reason.check is Check.FINITE


def test_a_repeated_message_is_ordinary():
    stream = Freshness(SOURCE, "base", LIMITS)
    stream.accept(1.0, 7)
    assert judged(stream, 1.1, 1.0, 7) == []


@pytest.mark.parametrize(
    ("stamp_s", "sequence"),
    [(1.05, 7), (0.95, 7), (1.05, 6), (1.0, 6), (math.nextafter(1.0, 0.0), 8)],
)
def test_messages_out_of_order(stamp_s, sequence):
    stream = Freshness(SOURCE, "base", LIMITS)
    stream.accept(1.0, 7)
    (reason,) = judged(stream, 1.1, stamp_s, sequence)
    assert (reason.code, reason.state) == ("source_out_of_order", State.STOPPED)
    assert reason.check is Check.FRESH
    assert reason.text == (
        f"base has sequence {sequence} stamped {stamp_s} after sequence 7 stamped 1.0"
    )


@pytest.mark.parametrize("stamp_s", [1.0, 1.05])
def test_the_next_message_may_share_its_stamp(stamp_s):
    stream = Freshness(SOURCE, "base", LIMITS)
    stream.accept(1.0, 7)
    assert judged(stream, 1.1, stamp_s, 8) == []


def test_skipped_at_the_limit():
    stream = Freshness(SOURCE, "base", limits(max_skipped=3))
    stream.accept(1.0, 7)
    assert judged(stream, 1.1, 1.05, 11) == []
    (reason,) = judged(stream, 1.1, 1.05, 12)
    assert (reason.code, reason.state) == ("source_skipped", State.LIMITED)
    assert reason.text == "base lost 4 messages at once"


def test_what_was_out_of_order_is_the_new_baseline():
    stream = Freshness(PROPOSAL, "", LIMITS)
    stream.accept(1.0, 70)
    assert states(judged(stream, 1.05, 1.05, 0)) == {"proposal_out_of_order": State.STOPPED}
    stream.accept(1.05, 0)
    assert judged(stream, 1.1, 1.1, 1) == []


def test_a_stamp_that_is_no_number_is_no_baseline():
    stream = Freshness(SOURCE, "base", LIMITS)
    stream.accept(1.0, 7)
    stream.accept(math.nan, 9)
    assert judged(stream, 1.1, 1.05, 8) == []


def test_judging_remembers_nothing():
    stream = Freshness(SOURCE, "base", LIMITS)
    judged(stream, 1.0, 1.0, 5)
    assert judged(stream, 1.0, 0.9, 4) == []


def test_several_faults_at_once_are_all_named():
    stream = Freshness(SOURCE, "base", LIMITS)
    stream.accept(1.0, 7)
    assert set(states(judged(stream, 9.0, 1.05, 7))) == {"source_lost", "source_out_of_order"}


def test_texts_name_the_sender_and_the_age():
    stream = Freshness(SOURCE, "lidar", LIMITS)
    assert judged(stream, 1.3, 1.0, 1)[0].text == "lidar is 0.300 s old"
    assert judged(stream, 1.6, 1.0, 1)[0].text == "lidar is 0.600 s old while moving"
    assert judged(stream, 1.0, 1.5, 1)[0].text == "lidar is 0.500 s ahead of the clock"
    assert judged(stream, 1.0, math.nan, 1)[0].text == "lidar is stamped nan"
