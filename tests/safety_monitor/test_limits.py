import copy
import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from monitor_rig import CONTRACT, LIMITS, PLAIN_LIMITS, limits

from holdfast.contract import ActionChannel, ObservationChannel, Recovery
from holdfast.errors import ConfigError
from holdfast.safety_monitor import Agreement, Following, Geofence, Limits, Monitor, Span, Tiers
from holdfast.sim.registry import resolve

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "drive.yaml"
CONFIGS = [
    path
    for folder in ("config", "examples")
    for path in sorted((ROOT / folder).glob("*.yaml"))
    if "\nmonitor:" in path.read_text()
]
OPTIONAL = {"agreement", "following", "pose_frozen_s", "velocity_frozen_s", "coasting_s"}


def changed(name, value):
    data = copy.deepcopy(PLAIN_LIMITS)
    data[name] = value
    return data


def test_plain_data_becomes_limits():
    assert LIMITS.geofence == Geofence(((-4.0, -3.0), (5.0, -3.0), (5.0, 2.0), (-4.0, 2.0)), ())
    assert LIMITS.footprint_radius_m is None
    assert LIMITS.tilt_rad == Tiers(0.25, 0.5)
    assert LIMITS.tracking_error == {"forward_speed": 0.375, "yaw_rate": 0.75}
    assert LIMITS.episode_budget is None


def test_the_drive_robot_s_limits_fit_its_contract():
    loaded = Limits.from_mapping(yaml.safe_load(CONFIG.read_text())["monitor"])
    Monitor(resolve("DriveCircle-v0").make().contract, loaded)


def test_what_older_logs_lack_is_not_checked():
    assert not OPTIONAL & PLAIN_LIMITS.keys()
    assert all(getattr(LIMITS, name) is None for name in OPTIONAL)
    assert Limits.from_mapping(PLAIN_LIMITS | dict.fromkeys(OPTIONAL)) == LIMITS


AGREEMENT = {
    "distance_share": 0.125,
    "axle_m": -0.25,
    "creep_m_s": 0.0625,
    "floor_m_s2": 1.5,
    "along_m": 0.5,
    "across_m": 0.25,
    "turn_share": 0.25,
    "creep_rad_s": 0.125,
    "heading_rad": 0.5,
}


def test_an_agreement_is_plain_data():
    read = Limits.from_mapping(changed("agreement", AGREEMENT)).agreement
    assert read == Agreement(0.125, -0.25, 0.0625, 1.5, 0.5, 0.25, 0.25, 0.125, 0.5)
    with pytest.raises(ConfigError, match=r"limits\.agreement: missing across_m"):
        Limits.from_mapping(
            changed(
                "agreement",
                {"distance_share": 0.1} | {name: 0.1 for name in AGREEMENT if name != "across_m"},
            )
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
            limits(agreement=Agreement(**{**AGREEMENT, name: value}))
        assert str(caught.value) == (
            f"monitor limits: agreement.{name} should be {should}, received {value}"
        )
    for value in right:
        limits(agreement=Agreement(**{**AGREEMENT, name: value}))


FOLLOWING = {
    "lag_s": 0.25,
    "creep_m_s": 0.0625,
    "creep_rad_s": 0.125,
    "turn_rad_per_m": 0.375,
    "settle_s": 0.5,
    "most_m": 0.75,
    "most_rad": 1.5,
}


def test_a_following_is_plain_data():
    data = changed("agreement", AGREEMENT) | {"following": FOLLOWING}
    read = Limits.from_mapping(data).following
    assert read == Following(0.25, 0.0625, 0.125, 0.375, 0.5, 0.75, 1.5)


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_following_makes_sense(name):
    if name.startswith("most"):
        wrong, right, should = (0.0, -1.0, math.nan, math.inf), (1e-9, 9.0), "finite and above 0"
    else:
        wrong, right, should = (-1e-9, math.nan, math.inf), (0.0, 9.0), "finite and at least 0"
    agreement = Agreement(**AGREEMENT)
    for value in wrong:
        with pytest.raises(ConfigError) as caught:
            limits(agreement=agreement, following=Following(**{**FOLLOWING, name: value}))
        assert str(caught.value) == (
            f"monitor limits: following.{name} should be {should}, received {value}"
        )
    for value in right:
        limits(agreement=agreement, following=Following(**{**FOLLOWING, name: value}))


def test_a_following_needs_to_know_where_wheels_slip():
    with pytest.raises(ConfigError, match="following should come with agreement, whose floor_m_s2"):
        limits(following=Following(**FOLLOWING))


@pytest.mark.parametrize("channel", ["forward_speed", "yaw_rate"])
def test_a_following_is_for_robots_that_are_commanded_by_speed_and_yaw_rate(channel):
    action = tuple(
        ActionChannel("other", c.unit, c.low, c.high, c.max_rate_per_s) if c.name == channel else c
        for c in CONTRACT.action
    )
    asked = limits(
        agreement=Agreement(**AGREEMENT), following=Following(**FOLLOWING), tracking_error={}
    )
    asked.require_fit(CONTRACT)
    with pytest.raises(ConfigError, match=r"following should be null .* channels are"):
        asked.require_fit(dataclasses.replace(CONTRACT, action=action))


def test_a_following_needs_what_it_looks_at():
    asked = limits(
        agreement=Agreement(**AGREEMENT),
        following=Following(**FOLLOWING),
        forward_speed_m_s=None,
        yaw_rate_rad_s=None,
        tracking_error={},
    )
    assert {"forward_speed", "yaw_rate"} <= Monitor(CONTRACT, asked).required


@pytest.mark.parametrize("name", ["pose_frozen_s", "velocity_frozen_s", "coasting_s"])
def test_a_time_that_may_be_missing_is_above_zero(name):
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=f"{name} should be finite and above 0, received"):
            limits(**{name: value})
    assert getattr(limits(**{name: 0.001}), name) == 0.001


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_robot_has_the_newest_checks(path):
    monitor = yaml.safe_load(path.read_text())["monitor"]
    Limits.from_mapping(monitor)
    assert monitor.keys() >= OPTIONAL


@pytest.mark.parametrize("name", PLAIN_LIMITS)
def test_every_key_must_be_there(name):
    data = copy.deepcopy(PLAIN_LIMITS)
    del data[name]
    with pytest.raises(ConfigError, match=f"^monitor limits: missing {name}$"):
        Limits.from_mapping(data)


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigError, match="unknown max_speeed"):
        Limits.from_mapping(changed("max_speeed", 1.0))


@pytest.mark.parametrize("data", [None, [], "fast", 3])
def test_limits_are_a_mapping(data):
    with pytest.raises(ConfigError, match=r"^monitor limits should be a mapping, received"):
        Limits.from_mapping(data)


def test_plain_data_is_finite():
    with pytest.raises(ConfigError, match=r"limits\.reaction_time_s should be a finite number"):
        Limits.from_mapping(changed("reaction_time_s", math.nan))


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
    with pytest.raises(ConfigError, match=f"^monitor limits: {name} should be finite and above 0"):
        limits(**{name: value})


@pytest.mark.parametrize("name", ["future_tolerance_s", "reaction_time_s", "slow_margin_m"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_what_may_not_be_below_zero(name, value):
    with pytest.raises(ConfigError, match=f"{name} should be finite and at least 0"):
        limits(**{name: value})
    assert getattr(limits(**{name: 0.0}), name) == 0.0


def test_max_skipped_counts_from_zero():
    with pytest.raises(ConfigError, match="max_skipped should be finite and at least 0"):
        limits(max_skipped=-1)
    assert limits(max_skipped=0).max_skipped == 0


@pytest.mark.parametrize(("name", "least"), [("source_lost_s", 0.25), ("proposal_lost_s", 0.125)])
def test_lost_comes_no_sooner_than_stale(name, least):
    assert getattr(limits(**{name: least}), name) == least
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
    assert limits(episode_coverage=1e-9).episode_coverage == 1e-9


@pytest.mark.parametrize("name", ["trigger_steps", "release_steps"])
def test_trigger_and_release_take_a_step(name):
    with pytest.raises(ConfigError, match=f"{name} should be at least 1, received 0"):
        limits(**{name: 0})
    assert getattr(limits(**{name: 1}), name) == 1


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
    ["forward_speed_m_s", "yaw_rate_rad_s", "tilt_rad", "tracking_s", "joint_velocity_rad_s"],
)
def test_tiers_are_in_order(name, limited, stopped):
    value, place = Tiers(limited, stopped), name
    if name == "joint_velocity_rad_s":
        value, place = (Tiers(1.0, 2.0), None, value), rf"{name}\[2\]"
    message = f"^monitor limits: {place} should be finite with 0 < limited <= stopped, received"
    with pytest.raises(ConfigError, match=message):
        limits(**{name: value})


def test_tiers_may_coincide():
    assert limits(tilt_rad=Tiers(1.0, 1.0)).tilt_rad.limited == 1.0


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
    message = r"^monitor limits: joint_position_rad\[1\] should be finite with margin at least 0"
    with pytest.raises(ConfigError, match=message):
        limits(joint_position_rad=(None, Span(low, high, margin)))


@pytest.mark.parametrize("margin", [0.0, 0.999])
def test_a_joint_may_have_little_room(margin):
    assert limits(joint_position_rad=(Span(-1.0, 1.0, margin),)).joint_position_rad is not None


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
def test_a_footprint_has_a_size(value):
    with pytest.raises(ConfigError, match="footprint_radius_m should be finite and above 0"):
        limits(footprint_radius_m=value)
    assert limits(footprint_radius_m=0.001).footprint_radius_m == 0.001


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
            f"monitor limits: {signal} has bounds for {len(some)} joints; the contract observes "
            f"{observed}"
        )


def test_joint_limits_are_plain_data():
    spans = [{"low": -1.0, "high": 2, "margin": 0.1}, None]
    read = Limits.from_mapping(changed("joint_position_rad", spans)).joint_position_rad
    assert read == (Span(-1.0, 2.0, 0.1), None)
    velocities = [{"limited": 1.0, "stopped": 2.0}]
    read = Limits.from_mapping(changed("joint_velocity_rad_s", velocities)).joint_velocity_rad_s
    assert read == (Tiers(1.0, 2.0),)
    with pytest.raises(ConfigError, match=r"limits\.joint_position_rad\[0\]: missing margin"):
        Limits.from_mapping(changed("joint_position_rad", [{"low": -1.0, "high": 1.0}]))


def test_a_recovery_is_plain_data():
    plain = {"name": "return_to_point", "parameters": {"x_m": 1}}
    read = Limits.from_mapping(changed("recovery", plain)).recovery
    assert read == Recovery("return_to_point", {"x_m": 1.0})
    with pytest.raises(ConfigError, match=r"limits\.recovery: missing parameters"):
        Limits.from_mapping(changed("recovery", {"name": "return_to_point"}))


def with_action(*channels):
    return dataclasses.replace(CONTRACT, action=channels, observation=CONTRACT.observation[:2])


FORWARD, YAW = CONTRACT.action


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (ActionChannel("spin", "rad/s", -1.0, 1.0, 1.0), "spin"),  # nothing measures it
        (ActionChannel("yaw_rate", "deg/s", -1.0, 1.0, 1.0), "yaw_rate"),  # in another unit
        (ActionChannel("tilt", "rad", -1.0, 1.0, 1.0), "tilt"),  # as two values
    ],
)
def test_only_what_is_measured_as_commanded_can_be_tracked(channel, name):
    contract = with_action(FORWARD, channel)
    with pytest.raises(ConfigError, match=f"tracking_error.{name} should name an action channel"):
        limits(tracking_error={name: 1.0}).require_fit(contract)
    limits(tracking_error={"forward_speed": 0.375}).require_fit(contract)


def test_limits_of_what_the_contract_does_not_command():
    spin = ActionChannel("spin", "rad/s", -1.0, 1.0, 1.0)
    limits(tracking_error={}, deceleration_m_s2=99.0).require_fit(with_action(spin))


@pytest.mark.parametrize(("low", "high"), [(-2.0, 1.0), (-1.0, 2.0), (0.0, 2.0), (-2.0, 0.0)])
def test_the_largest_command_may_be_in_either_direction(low, high):
    contract = with_action(dataclasses.replace(FORWARD, low=low, high=high), YAW)
    with pytest.raises(ConfigError, match=r"the forward_speed that stops the robot, 2\.0, should"):
        limits(forward_speed_m_s=Tiers(0.5, 2.0)).require_fit(contract)
    limits(forward_speed_m_s=Tiers(0.5, 2.001)).require_fit(contract)
