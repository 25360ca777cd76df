"""Limits as plain data: blocks and keys."""

import copy
import dataclasses
import json
import math
from pathlib import Path

import pytest
import yaml
from monitor_rig import AGREEMENT, LIMITS, PLAIN_LIMITS, limits

from holdfast.contract import Recovery
from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.safety_monitor import (
    Agreement,
    FollowingLimits,
    Geofence,
    Limits,
    Monitor,
    Span,
    Tiers,
)
from holdfast.safety_monitor.checks import CHECKS
from holdfast.sim.registry import resolve

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "drive.yaml"
CONFIGS = [
    path
    for folder in ("config", "examples")
    for path in sorted((ROOT / folder).glob("*.yaml"))
    if "\nmonitor:" in path.read_text()
]


def changed(block, name, value):
    data = copy.deepcopy(PLAIN_LIMITS)
    data.setdefault(block, {})[name] = value
    return data


def test_plain_data_becomes_limits():
    checks = LIMITS.checks
    assert checks.keys() == {"envelope", "geofence", "tracking"}
    corners = ((-4.0, -3.0), (5.0, -3.0), (5.0, 2.0), (-4.0, 2.0))
    assert checks["geofence"] == Geofence(corners, ())
    assert checks["envelope"].tilt_rad == Tiers(0.25, 0.5)
    assert checks["envelope"].joint_position_rad is None
    assert checks["tracking"].tracking_error == {"forward_speed": 0.375, "yaw_rate": 0.75}
    assert LIMITS.budget.slowdown_budget is None
    assert LIMITS.recovery is None


def test_the_drive_robot_s_limits_fit_its_contract():
    loaded = Limits.from_mapping(yaml.safe_load(CONFIG.read_text())["monitor"])
    Monitor(resolve("DriveCircle-v0").make().contract, loaded)


def test_limits_become_plain_data_again():
    assert LIMITS.to_plain() == {
        **PLAIN_LIMITS,
        "budget": {
            "episode_coverage": 0.5,
            "slowdown_budget": None,
            "on_prediction": "slow",
        },
        "envelope": {
            **PLAIN_LIMITS["envelope"],
            "lateral_speed_m_s": None,
            "joint_position_rad": None,
            "joint_velocity_rad_s": None,
        },
    }
    everything = limits(
        consistency=Agreement(**AGREEMENT),
        following=FollowingLimits(*[0.5] * 9),
        pose_frozen_s=1.0,
        coasting_s=1.0,
        footprint_radius_m=0.1,
        joint_position_rad=(None, Span(-1.0, 1.0, 0.125)),
        joint_velocity_rad_s=(Tiers(1.0, 2.0), None),
        slowdown_budget={"outside": 1.0},
        recovery=Recovery("return_to_point", {"x_m": 1.0}),
    )
    assert everything.checks.keys() == CHECKS.keys()
    plain = json.loads(json.dumps(everything.to_plain()))
    assert Limits.from_mapping(plain) == everything


def test_checks_are_asked_in_the_order_of_their_list():
    """Logs hold the reasons in this order."""
    assert tuple(CHECKS) == (
        "envelope", "geofence", "obstacles", "coasting",
        "tracking", "following", "consistency", "frozen",
    )  # fmt: skip
    turned = dataclasses.replace(LIMITS, checks=dict(reversed(LIMITS.checks.items())))
    assert [type(judge) for judge in turned.judges()] == [
        CHECKS[name] for name in ("envelope", "geofence", "tracking")
    ]


def test_a_check_may_be_off():
    for name in ("envelope", "geofence", "tracking"):
        left = {key: block for key, block in PLAIN_LIMITS.items() if key != name}
        assert Limits.from_mapping(left) == LIMITS.without(name)
        assert Limits.from_mapping({**left, name: None}) == LIMITS.without(name)
        assert name not in LIMITS.without(name).checks
    assert LIMITS.without("envelope", "geofence", "tracking", "frozen").checks == {}
    assert LIMITS.without() == LIMITS


@pytest.mark.parametrize("name", ["motion", "freshness", "ladder", "budget"])
def test_what_every_robot_has_may_not_be_off(name):
    left = {key: block for key, block in PLAIN_LIMITS.items() if key != name}
    for data in (left, {**left, name: None}):
        with pytest.raises(ConfigError, match=f"^monitor limits: missing {name}$"):
            Limits.from_mapping(data)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("envelope", {}, "should set forward_speed_m_s or lateral_speed_m_s or yaw_rate_rad_s or "),
        ("frozen", {}, "should set pose_frozen_s or velocity_frozen_s; leave it out to check none"),
        (
            "tracking",
            {**PLAIN_LIMITS["tracking"], "tracking_error": {}},
            "tracking_error should name an action channel, received none",
        ),
    ],
)
def test_a_block_that_checks_nothing_is_refused(name, data, sentence):
    with pytest.raises(ConfigError, match=rf"^monitor limits\.{name}: {sentence}"):
        Limits.from_mapping({**PLAIN_LIMITS, name: data})


UNFIT = {"omni": {"tracking"}, "quadruped": {"tracking", "coasting"}}
"""Checks that a robot's file gives up, and says why: wheels that slow a motion as a whole, and legs
that are commanded by no speed and sway where they stand."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_robot_has_every_check_that_its_sensors_allow(path):
    loaded = configs.load(path).monitor.checks
    expected = {"envelope", "coasting", "tracking", "consistency", "frozen"}
    assert loaded.keys() >= expected - UNFIT.get(path.stem, set())
    assert loaded["frozen"].pose_frozen_s is not None


# Keys.


@pytest.mark.parametrize(
    ("block", "name"), [(block, name) for block in PLAIN_LIMITS for name in PLAIN_LIMITS[block]]
)
def test_every_key_of_a_block_must_be_there_or_mean_that_nothing_is_checked(block, name):
    data = copy.deepcopy(PLAIN_LIMITS)
    del data[block][name]
    if block == "envelope":
        assert getattr(Limits.from_mapping(data).checks[block], name) is None
        return
    if name == "on_prediction":
        assert Limits.from_mapping(data).budget.on_prediction == "go_on"
        return
    with pytest.raises(ConfigError, match=rf"^monitor limits\.{block}: missing {name}$"):
        Limits.from_mapping(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (changed("freshness", "max_skiped", 1), ".freshness: unknown max_skiped; did you mean "
                                                "'max_skipped'?"),
        (changed("ladder", "x", 1), ".ladder: unknown x; known are trigger_steps, release_steps, "
                                    "fallback_max_s"),
        ({**PLAIN_LIMITS, "geofense": {}}, ": unknown geofense; did you mean 'geofence'?"),
        ({**PLAIN_LIMITS, "x": {}}, ": unknown x; known are motion, freshness, ladder, budget, "
                                    "recovery, envelope, geofence, obstacles, coasting, tracking, "
                                    "following, consistency, frozen"),
        ({**PLAIN_LIMITS, "along_m": 0.1}, ": unknown along_m; it belongs into the block "
                                           "consistency"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_the_right_one(data, sentence):
    with pytest.raises(ConfigError) as caught:
        Limits.from_mapping(data)
    assert str(caught.value) == f"monitor limits{sentence}"


@pytest.mark.parametrize("data", [None, [], "fast", 3])
def test_limits_and_blocks_are_mappings(data):
    with pytest.raises(ConfigError, match=r"^monitor limits should be a mapping, received"):
        Limits.from_mapping(data)
    if data is not None:
        with pytest.raises(ConfigError, match=r"limits\.ladder should be a mapping, received"):
            Limits.from_mapping({**PLAIN_LIMITS, "ladder": data})


def test_plain_data_is_finite():
    with pytest.raises(ConfigError, match=r"motion\.reaction_time_s should be a finite number"):
        Limits.from_mapping(changed("motion", "reaction_time_s", math.nan))


def test_joint_limits_are_plain_data():
    spans = [{"low": -1.0, "high": 2, "margin": 0.1}, None]
    read = Limits.from_mapping(changed("envelope", "joint_position_rad", spans))
    assert read.checks["envelope"].joint_position_rad == (Span(-1.0, 2.0, 0.1), None)
    velocities = [{"limited": 1.0, "stopped": 2.0}]
    read = Limits.from_mapping(changed("envelope", "joint_velocity_rad_s", velocities))
    assert read.checks["envelope"].joint_velocity_rad_s == (Tiers(1.0, 2.0),)
    spans = [{"low": -1.0, "high": 1.0}]
    with pytest.raises(ConfigError, match=r"envelope\.joint_position_rad\[0\]: missing margin"):
        Limits.from_mapping(changed("envelope", "joint_position_rad", spans))


def test_a_recovery_is_plain_data():
    plain = {"name": "return_to_point", "parameters": {"x_m": 1}}
    read = Limits.from_mapping({**PLAIN_LIMITS, "recovery": plain}).recovery
    assert read == Recovery("return_to_point", {"x_m": 1.0})
    with pytest.raises(ConfigError, match=r"limits\.recovery: missing parameters"):
        Limits.from_mapping({**PLAIN_LIMITS, "recovery": {"name": "return_to_point"}})
