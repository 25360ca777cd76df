import math

import pytest
from monitor_rig import CONTRACT, limits

from holdfast.safety_monitor import Check, State
from holdfast.safety_monitor.tracking import Tracking

# Off by more than 0.5 m/s or 1 rad/s for over 0.25 s: LIMITED; for over 0.5 s: STOPPED.
LIMITS = limits()
APPLIED = [0.5, -1.0]


def off(tracking, now_s, forward=0.5, yaw=-1.0):
    values, reasons = {}, []
    if forward is not None:
        values["forward_speed"] = [forward]
    if yaw is not None:
        values["yaw_rate"] = [yaw]
    tracking.judge(now_s, values, APPLIED, reasons)
    assert all(reason.check is Check.ENVELOPE for reason in reasons)
    return [(reason.code, reason.state) for reason in reasons]


FORWARD, YAW = "forward_speed_not_tracking", "yaw_rate_not_tracking"


@pytest.mark.parametrize(
    ("forward", "yaw", "codes"),
    [
        (1.0, 0.0, []),
        (0.0, -2.0, []),
        (1.001, 0.0, [FORWARD]),
        (-0.001, 0.0, [FORWARD]),
        (0.5, 0.001, [YAW]),
        (0.5, -2.001, [YAW]),
        (9.0, 9.0, [FORWARD, YAW]),
        (None, -1.0, [FORWARD]),
    ],
)
def test_how_far_is_too_far(forward, yaw, codes):
    tracking = Tracking(CONTRACT, LIMITS)
    assert off(tracking, 0.0, forward, yaw) == []
    assert off(tracking, 0.3, forward, yaw) == [(code, State.LIMITED) for code in codes]


def test_how_long_is_too_long():
    tracking = Tracking(CONTRACT, LIMITS)
    for now_s, expected in (
        (8.0, []),
        (8.25, []),
        (math.nextafter(8.25, 9), [(FORWARD, State.LIMITED)]),
        (8.5, [(FORWARD, State.LIMITED)]),
        (math.nextafter(8.5, 9), [(FORWARD, State.STOPPED)]),
    ):
        assert off(tracking, now_s, forward=-1.0) == expected


def test_a_moment_on_track_starts_the_time_again():
    tracking = Tracking(CONTRACT, LIMITS)
    off(tracking, 0.0, forward=-1.0)
    assert off(tracking, 0.4) == []
    assert off(tracking, 0.5, forward=-1.0) == []
    assert off(tracking, 0.7, forward=-1.0) == []
    assert off(tracking, 0.8, forward=-1.0) == [(FORWARD, State.LIMITED)]


def test_forgetting_starts_the_time_again():
    tracking = Tracking(CONTRACT, LIMITS)
    off(tracking, 0.0, forward=-1.0)
    tracking.forget()
    assert off(tracking, 9.0, forward=-1.0) == []


def test_only_named_channels_are_tracked():
    tracking = Tracking(CONTRACT, limits(tracking_error={"yaw_rate": 1.0}))
    off(tracking, 0.0, forward=9.0, yaw=9.0)
    assert off(tracking, 9.0, forward=9.0, yaw=9.0) == [(YAW, State.STOPPED)]


def test_the_text_says_for_how_long():
    tracking, reasons = Tracking(CONTRACT, LIMITS), []
    tracking.judge(0.0, {}, APPLIED, reasons)
    tracking.judge(0.3, {"yaw_rate": [-1.0]}, APPLIED, reasons)
    assert [reason.text for reason in reasons] == [
        "forward_speed has not followed its command for 0.30 s"
    ]
