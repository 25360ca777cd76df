"""Values that limits may have, by themselves and beside a contract."""

import dataclasses
import math

import pytest
from monitor_rig import AGREEMENT, BLOCK_OF, CONTRACT, LIMITS, check, limits

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.errors import ConfigError
from holdfast.safety_monitor import (
    Agreement,
    Monitor,
    Span,
    Tiers,
)


@pytest.mark.parametrize("name", AGREEMENT)
def test_an_agreement_makes_sense(name):
    if name.endswith("share"):
        wrong, right, should = (-1e-9, 0.5, math.nan), (0.0, 0.499), "at least 0 and below 0.5"
    elif name in ("floor_m_s2", "along_m", "across_m", "heading_rad"):
        wrong, right, should = (0.0, -1.0, math.nan, math.inf), (1e-9, 9.0), "finite and above 0"
    elif name == "axle_m":
        wrong, right, should = (-math.inf, math.nan, math.inf), (-1.0, 0.0, 1.0), "finite"
    else:
        wrong, right, should = (-1e-9, math.nan, math.inf), (0.0, 9.0), "finite and at least 0"
    for value in wrong:
        with pytest.raises(ConfigError) as caught:
            Agreement(**{**AGREEMENT, name: value})
        assert str(caught.value) == (
            f"monitor limits.consistency: {name} should be {should}, received {value}"
        )
    for value in right:
        Agreement(**{**AGREEMENT, name: value})


OPTIONAL = (
    ("frozen", "pose_frozen_s"),
    ("frozen", "velocity_frozen_s"),
    ("coasting", "coasting_s"),
)


@pytest.mark.parametrize(("block", "name"), OPTIONAL)
def test_a_time_that_may_be_missing_is_above_zero(block, name):
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(
            ConfigError, match=rf"{block}: {name} should be finite and above 0, received"
        ):
            limits(**{name: value})
    assert getattr(limits(**{name: 0.001}).checks[block], name) == 0.001


POSITIVE = (
    "source_max_age_s",
    "proposal_max_age_s",
    "max_step_gap_s",
    "deceleration_m_s2",
    "standing_speed_m_s",
    "standing_yaw_rate_rad_s",
    "fallback_max_s",
)


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_must_be_above_zero(name, value):
    with pytest.raises(
        ConfigError, match=rf"^monitor limits\.\w+: {name} should be finite and above 0"
    ):
        limits(**{name: value})


@pytest.mark.parametrize("name", ["future_tolerance_s", "reaction_time_s", "slow_margin_m"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_what_may_not_be_below_zero(name, value):
    with pytest.raises(ConfigError, match=f"{name} should be finite and at least 0"):
        limits(**{name: value})
    block = BLOCK_OF[name]
    assert getattr(getattr(limits(**{name: 0.0}), block), name) == 0.0


def test_max_skipped_counts_from_zero():
    with pytest.raises(ConfigError, match="max_skipped should be finite and at least 0"):
        limits(max_skipped=-1)
    assert limits(max_skipped=0).freshness.max_skipped == 0


@pytest.mark.parametrize(("name", "least"), [("source_lost_s", 0.25), ("proposal_lost_s", 0.125)])
def test_lost_comes_no_sooner_than_stale(name, least):
    assert getattr(limits(**{name: least}).freshness, name) == least
    for value in (math.nextafter(least, 0.0), math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"{name} should be finite and at least"):
            limits(**{name: value})


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, math.nan])
def test_limited_is_slower_but_not_standing(value):
    with pytest.raises(ConfigError, match="limited_scale should be between 0 and 1"):
        limits(limited_scale=value)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, math.nan])
def test_a_coverage_is_a_share(value):
    with pytest.raises(ConfigError, match="episode_coverage should be between 0 and 1, received"):
        limits(episode_coverage=value)
    assert limits(episode_coverage=1e-9).budget.episode_coverage == 1e-9


@pytest.mark.parametrize("name", ["trigger_steps", "release_steps"])
def test_trigger_and_release_take_a_step(name):
    with pytest.raises(ConfigError, match=f"{name} should be at least 1, received 0"):
        limits(**{name: 0})
    assert getattr(limits(**{name: 1}).ladder, name) == 1


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_tracking_error_is_a_distance(value):
    with pytest.raises(ConfigError, match=r"tracking_error\.yaw_rate should be finite and above 0"):
        limits(tracking_error={"forward_speed": 0.5, "yaw_rate": value})


@pytest.mark.parametrize(
    ("limited", "stopped"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5), (math.nan, 1.0), (1.0, math.nan), (1.0, math.inf)],
)
@pytest.mark.parametrize(
    "name",
    [
        *("forward_speed_m_s", "lateral_speed_m_s", "yaw_rate_rad_s", "tilt_rad"),
        *("tracking_s", "joint_velocity_rad_s"),
    ],
)
def test_tiers_are_in_order(name, limited, stopped):
    value, place = Tiers(limited, stopped), name
    if name == "joint_velocity_rad_s":
        value, place = (Tiers(1.0, 2.0), None, value), rf"{name}\[2\]"
    message = (
        rf"^monitor limits\.\w+: {place} should be finite with 0 < limited <= stopped, received"
    )
    with pytest.raises(ConfigError, match=message):
        limits(**{name: value})


def test_tiers_may_coincide():
    assert limits(tilt_rad=Tiers(1.0, 1.0)).checks["envelope"].tilt_rad.limited == 1.0


@pytest.mark.parametrize(
    ("low", "high", "margin"),
    [
        (1.0, 1.0, 0.0),
        (1.0, -1.0, 0.0),
        (-1.0, 1.0, 1.0),
        (-1.0, 1.0, -0.001),
        (-math.inf, 1.0, 0.1),
        (-1.0, math.inf, 0.1),
        (math.nan, 1.0, 0.1),
        (-1.0, 1.0, math.nan),
        (-1.0, 1.0, math.inf),
    ],
)
def test_a_joint_has_somewhere_to_be(low, high, margin):
    message = r"limits\.envelope: joint_position_rad\[1\] should be finite with margin at least 0"
    with pytest.raises(ConfigError, match=message):
        limits(joint_position_rad=(None, Span(low, high, margin)))


@pytest.mark.parametrize("margin", [0.0, 0.999])
def test_a_joint_may_have_little_room(margin):
    spans = (Span(-1.0, 1.0, margin),)
    assert limits(joint_position_rad=spans).checks["envelope"].joint_position_rad == spans


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
def test_a_footprint_has_a_size(value):
    with pytest.raises(ConfigError, match="footprint_radius_m should be finite and above 0"):
        limits(footprint_radius_m=value)
    assert limits(footprint_radius_m=0.001).checks["obstacles"].footprint_radius_m == 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_step_gap_s": 0.05}, "max_step_gap_s 0.05 should be above the contract's period_s"),
        ({"tracking_error": {"tilt": 1.0}}, "tracking_error.tilt should name an action channel"),
        ({"tracking_error": {"speed": 1.0}}, "channels are forward_speed, yaw_rate"),
        (
            {"forward_speed_m_s": Tiers(0.5, 1.0)},
            "the forward_speed that stops the robot, 1.0, should be above the largest",
        ),
        ({"yaw_rate_rad_s": Tiers(0.5, 2.0)}, "the yaw_rate that stops the robot, 2.0, should"),
        (
            {"tracking_error": {"forward_speed": 0.5}},
            "tracking_error.forward_speed 0.5 should be below 0.5, limited_scale times the largest "
            "command, or a robot that does not move at all would be on track once it is slowed",
        ),
        ({"tracking_error": {"yaw_rate": 1.0}}, "tracking_error.yaw_rate 1.0 should be below 1,"),
        (
            {"tracking_error": {"yaw_rate": 0.5}, "limited_scale": 0.25},
            "tracking_error.yaw_rate 0.5 should be below 0.5,",
        ),
        ({"deceleration_m_s2": 4.001}, "deceleration_m_s2 4.001 should be at most the rate"),
    ],
)
def test_limits_that_contradict_the_contract(change, message):
    with pytest.raises(ConfigError, match=message):
        Monitor(CONTRACT, limits(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"max_step_gap_s": 0.051},
        {"forward_speed_m_s": Tiers(0.5, 1.001)},
        {"forward_speed_m_s": None, "yaw_rate_rad_s": None},
        {"deceleration_m_s2": 4.0},
        {"tracking_error": {"forward_speed": 0.499, "yaw_rate": 0.999}},
    ],
)
def test_limits_at_the_edge_of_the_contract(change):
    Monitor(CONTRACT, limits(**change))


JOINTED = dataclasses.replace(
    CONTRACT,
    observation=(
        *CONTRACT.observation,
        ObservationChannel("joints", 4, "1", "joint_position", "cos_sin"),
        ObservationChannel("joint_velocity", 2, "rad/s", "joint_velocity"),
    ),
)
"""Of a robot with two joints."""


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("joint_position_rad", (Span(-1.0, 1.0, 0.1), None, None)),
        ("joint_velocity_rad_s", (Tiers(1.0, 2.0), None, None)),
    ],
)
def test_every_joint_of_the_contract_has_bounds_and_no_other(name, bounds):
    signal = name.rpartition("_rad")[0]
    Monitor(JOINTED, limits(**{name: bounds[:2]}))
    for contract, some, observed in (
        (JOINTED, bounds, "2"),
        (JOINTED, (), "2"),
        (CONTRACT, bounds, "none"),
    ):
        with pytest.raises(ConfigError) as caught:
            Monitor(contract, limits(**{name: some}))
        assert str(caught.value) == (
            f"monitor limits.envelope: {signal} has bounds for {len(some)} joints; the contract "
            f"observes {observed}"
        )


def with_action(*channels):
    return dataclasses.replace(CONTRACT, action=channels, observation=CONTRACT.observation[:2])


FORWARD, YAW = CONTRACT.action


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (ActionChannel("spin", "rad/s", -1.0, 1.0, 1.0), "spin"),  # nothing measures it
        (ActionChannel("tilt", "rad", -1.0, 1.0, 1.0), "tilt"),  # as two values
    ],
)
def test_only_what_is_measured_as_commanded_can_be_tracked(channel, name):
    contract = with_action(FORWARD, channel)
    with pytest.raises(ConfigError, match=f"tracking_error.{name} should name an action channel"):
        check("tracking", limits(tracking_error={name: 1.0}), contract)
    check("tracking", limits(tracking_error={"forward_speed": 0.375}), contract)


def test_limits_of_what_the_contract_does_not_command():
    spin = ActionChannel("spin", "rad/s", -1.0, 1.0, 1.0)
    limits(deceleration_m_s2=99.0).motion.require(with_action(spin))
    check("envelope", LIMITS, with_action(spin))


@pytest.mark.parametrize(("low", "high"), [(-2.0, 1.0), (-1.0, 2.0), (0.0, 2.0), (-2.0, 0.0)])
def test_the_largest_command_may_be_in_either_direction(low, high):
    contract = with_action(dataclasses.replace(FORWARD, low=low, high=high), YAW)
    with pytest.raises(ConfigError, match=r"the forward_speed that stops the robot, 2\.0, should"):
        check("envelope", limits(forward_speed_m_s=Tiers(0.5, 2.0)), contract)
    check("envelope", limits(forward_speed_m_s=Tiers(0.5, 2.001)), contract)


def test_what_is_commanded_to_the_side_is_limited_like_what_is_ahead():
    contract = with_action(FORWARD, dataclasses.replace(FORWARD, name="lateral_speed"))
    with pytest.raises(ConfigError, match=r"the lateral_speed that stops the robot, 1\.0, should"):
        check("envelope", limits(lateral_speed_m_s=Tiers(0.5, 1.0)), contract)
    check("envelope", limits(lateral_speed_m_s=Tiers(0.5, 1.001)), contract)
    slow = dataclasses.replace(FORWARD, name="lateral_speed", max_rate_per_s=1.5)
    with pytest.raises(ConfigError, match=r"contract lets lateral_speed change, 1\.5$"):
        limits(deceleration_m_s2=2.0).motion.require(with_action(FORWARD, slow))
    limits(deceleration_m_s2=1.5).motion.require(with_action(FORWARD, slow))


def test_a_log_is_replayed_under_limits_that_would_be_refused_today():
    """A monitor that is told to complain is made all the same, and judges as it did."""
    lax = limits(tracking_error={"forward_speed": 0.5}, max_step_gap_s=0.05)
    said = []
    monitor = Monitor(CONTRACT, lax, complain=said.append)
    assert len(said) == 2
    assert said[0].startswith("monitor limits.freshness: max_step_gap_s 0.05 should be above")
    assert said[1].startswith("monitor limits.tracking: tracking_error.forward_speed 0.5 should")
    assert monitor._in_motion[0]._channels == (("forward_speed", 0, 0.5),)
    Monitor(CONTRACT, LIMITS, complain=said.append)
    assert len(said) == 2
