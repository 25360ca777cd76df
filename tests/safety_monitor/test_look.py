import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, LIMITS, codes, limits

from holdfast.contract import ActionChannel, Cost, DeclaredSignal, ObservationChannel
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor import Check, Monitor, Proposal, Reading, State, Tiers, look

UP = math.inf
AHEAD = ("forward_speed", "heading")
ANYWHERE = ("forward_speed", "lateral_speed", "heading")
TIME_ALONE = CONTRACT.observation[3:]


def reading(**signals):
    return Reading(0.0, 1, {name: np.array(value, float) for name, value in signals.items()})


def measured(*readings, required=("position", "tilt"), speeds=AHEAD):
    arrays, values, stamps, reasons = {}, {}, {}, []
    sources = {f"source{i}": one for i, one in enumerate(readings)}
    required = frozenset(required)
    shapes = look.wanted_shapes(CONTRACT, required)
    look.validate_signals(sources, required, shapes, speeds, arrays, values, stamps, reasons)
    assert arrays.keys() == values.keys()
    assert stamps == dict.fromkeys(values, 0.0)
    return values, reasons


GOOD = {"position": [1.0, 2.0], "tilt": [0.0, 0.1], "linear_velocity": [0.5, 0.0]}


def test_a_robots_own_number_of_joints_is_the_contracts_to_say():
    joints = ObservationChannel("joints", 6, "1", "joint_position", "cos_sin")
    with_joints = dataclasses.replace(CONTRACT, observation=(*CONTRACT.observation, joints))
    needed = frozenset({"joint_position"})
    assert look.wanted_shapes(with_joints, needed)["joint_position"] == (3,)
    with pytest.raises(ConfigError, match="joint_position is needed; the contract should observe"):
        look.wanted_shapes(CONTRACT, needed)
    with pytest.raises(ConfigError, match="joint_position is needed"):  # in the alphabet's order
        look.wanted_shapes(CONTRACT, ("joint_velocity", "joint_position"))


NOTHING = {
    "geofence": None,
    "forward_speed_m_s": None,
    "yaw_rate_rad_s": None,
    "tilt_rad": None,
    "tracking_error": {},
}
"""No check but freshness."""


def required(contract, also, limits):
    """Return the signals that are needed beside those of costs and recovery."""
    needs = [name for judge in limits.judges() for name in judge.signals]
    return look.required_signals(contract, (*also, *needs))


def test_required_signals_are_those_that_anything_uses():
    everything = required(CONTRACT, ("linear_velocity",), LIMITS)
    assert everything == {
        "position",
        "heading",
        "linear_velocity",
        "forward_speed",
        "yaw_rate",
        "tilt",
    }
    bare = limits(**NOTHING)
    commanded = {"heading", "forward_speed"}
    no_position = dataclasses.replace(CONTRACT, observation=CONTRACT.observation[1:])
    assert required(CONTRACT, (), bare) == {"position", *commanded}
    assert required(no_position, (), bare) == commanded
    for name, value, signals in (
        ("forward_speed_m_s", Tiers(1.0, 2.0), {"forward_speed"}),
        ("yaw_rate_rad_s", Tiers(1.0, 2.0), {"yaw_rate"}),
        ("tilt_rad", Tiers(1.0, 2.0), {"tilt"}),
        ("tracking_error", {"yaw_rate": 0.75}, {"yaw_rate"}),
        ("geofence", LIMITS.checks["geofence"], {"position"}),
        ("footprint_radius_m", 0.25, {"scan"}),
        ("joint_position_rad", (None,), {"joint_position"}),
        ("joint_velocity_rad_s", (None,), {"joint_velocity"}),
    ):
        changed = limits(**{**NOTHING, name: value})
        assert required(no_position, (), changed) == {*commanded, *signals}
    blind = dataclasses.replace(CONTRACT, observation=CONTRACT.observation[2:])
    scanning = limits(**{**NOTHING, "footprint_radius_m": 0.25})
    assert required(blind, (), scanning) == {"scan", *commanded}


def test_signals_of_several_sources_are_gathered():
    values, reasons = measured(
        reading(position=[1.0, 2.0], linear_velocity=[0.5, 0.0]), reading(tilt=[0.0, 0.1])
    )
    assert (values, reasons) == (GOOD, [])


def test_signals_that_nobody_uses_are_not_looked_at():
    unused = Reading(0.0, 1, {"camera": np.full((3, 3), math.nan)})
    assert measured(reading(**GOOD), unused, unused) == (GOOD, [])


def test_motion_is_looked_at_wherever_it_is_known():
    values, _ = measured(reading(**GOOD, forward_speed=[1.0], heading=[2.0], yaw_rate=[3.0]))
    assert {"forward_speed", "heading", "yaw_rate"} <= values.keys()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["position", "linear_velocity"])
def test_a_signal_that_is_no_number(name, value):
    values, (reason,) = measured(reading(**{**GOOD, name: [0.0, value]}))
    assert name not in values
    assert (reason.check, reason.code) == (Check.FINITE, "signal_not_finite")
    assert reason.state is State.STOPPED
    assert reason.text == f"{name} is [0.0, {value}]"


def test_numbers_are_usable_even_where_their_sum_is_not():
    values, reasons = measured(reading(**{**GOOD, "position": [1e308, 1e308]}))
    assert values["position"] == [1e308, 1e308]
    assert reasons == []


@pytest.mark.parametrize("value", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], 1.0, []])
def test_a_signal_of_another_shape(value):
    values, (reason,) = measured(reading(**{**GOOD, "position": value}))
    assert "position" not in values
    assert (reason.check, reason.code) == (Check.CONTRACT, "signal_shape")
    assert reason.state is State.STOPPED
    assert reason.text == f"position should have shape (2,), received {np.shape(value)}"


def test_a_bad_signal_hides_no_other():
    values, reasons = measured(
        reading(position=[1.0], tilt=[math.nan, 0.0], linear_velocity=[0.5, 0.0])
    )
    assert values == {"linear_velocity": [0.5, 0.0]}
    assert codes(reasons) == {"signal_shape", "signal_not_finite"}


def test_a_missing_signal():
    names = ("tilt", "yaw_rate", "heading", "scan", "position", "forward_speed")
    _, (reason,) = measured(reading(linear_velocity=[0.0, 0.0]), required=names)
    assert (reason.check, reason.code) == (Check.CONTRACT, "signal_missing")
    assert reason.state is State.STOPPED
    assert reason.text == "no source carries forward_speed, heading, position, scan, tilt, yaw_rate"


def test_a_signal_from_two_sources():
    values, (reason,) = measured(reading(**GOOD), reading(tilt=[9.0, 9.0]))
    assert values["tilt"] == [0.0, 0.1]
    assert (reason.check, reason.code) == (Check.CONTRACT, "signal_ambiguous")
    assert reason.text == "source1 repeats signal tilt"


@pytest.mark.parametrize("first", [[math.nan, 0.0], [0.0]])
def test_a_signal_from_two_sources_of_which_one_cannot_be_used(first):
    values, reasons = measured(
        reading(position=[1.0, 2.0], linear_velocity=[0.5, 0.0], tilt=first),
        reading(tilt=[0.0, 0.1]),
    )
    assert "tilt" not in values
    assert "signal_ambiguous" in codes(reasons)
    assert len(reasons) == 2


@pytest.mark.parametrize("motion", [{}, {"forward_speed": [0.0]}, {"heading": [0.0]}])
def test_motion_must_be_known(motion):
    _, (reason,) = measured(reading(position=[0.0, 0.0], tilt=[0.0, 0.0], **motion))
    assert (reason.check, reason.code) == (Check.CONTRACT, "signal_missing")
    assert reason.text == "no source carries linear_velocity, or forward_speed and heading"


def test_forward_speed_and_heading_are_enough():
    known = {"forward_speed": [1.0], "heading": [2.0]}
    assert measured(reading(**known), required=()) == (known, [])


@pytest.mark.parametrize("without", ANYWHERE)
def test_of_a_robot_that_may_go_sideways_more_must_be_known(without):
    known = {"forward_speed": [1.0], "lateral_speed": [3.0], "heading": [2.0]}
    assert measured(reading(**known), required=(), speeds=ANYWHERE) == (known, [])
    known[without] = None
    some = reading(**{name: value for name, value in known.items() if value is not None})
    _, (reason,) = measured(some, required=(), speeds=ANYWHERE)
    assert (reason.check, reason.code) == (Check.CONTRACT, "signal_missing")
    assert reason.text == (
        "no source carries linear_velocity, or forward_speed, lateral_speed and heading"
    )
    fast = reading(linear_velocity=[1.0, 2.0])
    assert measured(some, fast, required=(), speeds=ANYWHERE)[1] == []


def test_a_lateral_speed_that_is_no_number_is_not_taken_for_none():
    known = {"forward_speed": [1.0], "lateral_speed": [math.nan], "heading": [2.0]}
    for speeds in (AHEAD, ANYWHERE):
        values, (reason,) = measured(reading(**known), required=(), speeds=speeds)
        assert (reason.code, reason.state) == ("signal_not_finite", State.STOPPED)
        assert "lateral_speed" not in values


@pytest.mark.parametrize("speeds", [AHEAD, ANYWHERE])
def test_velocity(speeds):
    assert look.velocity({"linear_velocity": [1.0, 2.0]}, speeds) == (1.0, 2.0)
    ahead = {"forward_speed": [2.0], "heading": [math.pi / 6]}
    both = {**ahead, "lateral_speed": [-4.0]}
    known = look.velocity(both, speeds)
    assert known == pytest.approx((math.sqrt(3.0) + 2.0, 1.0 - 2.0 * math.sqrt(3.0)))
    assert look.velocity({**both, "linear_velocity": [5.0, 6.0]}, speeds) == (5.0, 6.0)
    for name in AHEAD:
        fewer = {each: value for each, value in both.items() if each != name}
        assert look.velocity(fewer, speeds) is None


def test_a_forward_speed_alone_is_the_velocity_of_a_robot_that_only_goes_ahead():
    ahead = {"forward_speed": [2.0], "heading": [math.pi / 6]}
    assert look.velocity(ahead, AHEAD) == pytest.approx((math.sqrt(3.0), 1.0))
    assert look.velocity(ahead, ANYWHERE) is None


FAST = ("linear_velocity",)


@pytest.mark.parametrize(
    ("channels", "also", "needed"),
    [
        (("forward_speed m/s",), (), {"forward_speed", "heading"}),
        (("forward_speed m/s",), ("linear_velocity",), {"linear_velocity", "yaw_rate"}),
        (("forward_speed m/s", "lateral_speed m/s"), (), {"yaw_rate"}),
        (("lateral_speed m/s",), ("heading",), {"heading"}),
        (("velocity_x m/s", "velocity_y m/s"), ("linear_velocity",), {*FAST, "yaw_rate"}),
        (("yaw_rate rad/s",), (), {"yaw_rate"}),
        (("torque N m",), ("angular_velocity",), {"angular_velocity"}),
        (("torque N m",), (), {"yaw_rate"}),
    ],
)
def test_what_is_commanded_is_to_be_measured(channels, also, needed):
    assert required(commanded(*channels), also, limits(**NOTHING)) == needed


def commanded(*channels):
    action = tuple(ActionChannel(*channel.split(" ", 1), -1.0, 1.0, 1.0) for channel in channels)
    return dataclasses.replace(CONTRACT, action=action, observation=TIME_ALONE)


@pytest.mark.parametrize(
    ("channels", "speeds"),
    [
        (("forward_speed m/s", "yaw_rate rad/s"), AHEAD),
        (("yaw_rate rad/s",), AHEAD),
        (("forward_speed m/s", "lateral_speed m/s"), ANYWHERE),
        (("lateral_speed m/s",), ANYWHERE),
        (("velocity_x m/s", "velocity_y m/s"), ANYWHERE),
    ],
)
def test_a_motion_that_nothing_measures_is_refused(channels, speeds):
    contract = commanded(*channels)
    assert look.speed_signals(contract) == speeds
    look.require_velocity(contract, FAST)
    look.require_velocity(contract, {*speeds, "scan"})
    for missing in speeds:
        with pytest.raises(ConfigError) as caught:
            look.require_velocity(contract, {*ANYWHERE} - {missing})
        listed = ", ".join(speeds[:-1])
        assert str(caught.value) == (
            f"contract of task '{CONTRACT.task}': the robot should measure its velocity, by "
            f"linear_velocity, or {listed} and heading; nothing measures {missing}"
        )
    with pytest.raises(ConfigError, match=f"nothing measures {' and '.join(speeds)}$"):
        look.require_velocity(contract, ())


class Listy:
    """Has an array's shape and numbers, and is none."""

    dtype, shape = np.dtype("f8"), (2,)

    def tolist(self):
        return [0.0, 0.0]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.array([1.0, None], object), "type object"),
        (np.array(["1", "2"]), "type <U1"),
        (np.array([1j, 0.0]), "type complex128"),
        (np.array([True, False]), "type bool"),
        (np.array([1.0, 2.0], np.longdouble), f"type {np.dtype(np.longdouble)}"),
        (np.array([1, 2], "datetime64[s]"), "type datetime64[s]"),
        (np.zeros(2, [("x", "f8")]), "type [('x', '<f8')]"),
        ([0.0, 0.0], "type list"),
        (None, "type NoneType"),
        (10**400, "type int"),
        (Listy(), "type float64"),
    ],
)
def test_what_is_no_array_of_real_numbers(value, what):
    values, (reason,) = measured(Reading(0.0, 1, {**reading(**GOOD).signals, "position": value}))
    assert "position" not in values
    assert (reason.check, reason.code) == (Check.CONTRACT, "signal_type")
    assert reason.state is State.STOPPED
    assert reason.text == f"position should be an array of real numbers, received {what}"


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f8", "i1", "i8", "u1", "u8"])
def test_every_array_of_real_numbers_will_do(kind):
    array = np.array([1, 2], kind)
    values, reasons = measured(Reading(0.0, 1, {**reading(**GOOD).signals, "position": array}))
    assert values["position"] == [1.0, 2.0]
    assert reasons == []


@pytest.mark.parametrize(
    ("sectors", "code", "text"),
    [
        ({0: math.nan}, "scan_blind", "the scan is blind in 1 of 36 sectors"),
        ({3: math.nan, 9: math.nan}, "scan_blind", "the scan is blind in 2 of 36 sectors"),
        ({3: math.nan, 9: math.inf}, "scan_blind", "the scan is blind in 1 of 36 sectors"),
        ({5: math.inf}, "signal_not_finite", None),
        ({5: -math.inf}, "signal_not_finite", None),
    ],
)
def test_a_scan_that_is_blind_somewhere_says_so(sectors, code, text):
    scan = [1.0] * 36
    for sector, value in sectors.items():
        scan[sector] = value
    values, (reason,) = measured(reading(**GOOD, scan=scan), required=("position", "tilt", "scan"))
    assert "scan" not in values
    assert (reason.check, reason.code, reason.state) == (Check.FINITE, code, State.STOPPED)
    assert text is None or reason.text == text


def test_no_other_signal_is_blind():
    _, (reason,) = measured(reading(**{**GOOD, "tilt": [math.nan, 0.0]}))
    assert reason.code == "signal_not_finite"


def proposed(action, contract_hash=CONTRACT.hash):
    reasons = []
    proposal = Proposal(0.0, 1, np.array(action, dtype=float), contract_hash)
    return look.check_proposal(proposal, CONTRACT, reasons), reasons


def test_a_proposal_far_outside_the_limits_is_no_fault():
    assert proposed([1e6, -1e6]) == ([1e6, -1e6], [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_proposal_that_is_no_number(value):
    usable, (reason,) = proposed([0.0, value])
    assert usable is None
    assert (reason.check, reason.code) == (Check.FINITE, "proposal_not_finite")
    assert reason.state is State.STOPPED
    assert reason.text == f"the proposed action is [0.0, {value}]"


@pytest.mark.parametrize("action", [[], [0.0], [0.0, 0.0, 0.0], [[0.0, 0.0]], 0.0])
def test_a_proposal_of_another_shape(action):
    usable, (reason,) = proposed(action)
    assert usable is None
    assert (reason.check, reason.code) == (Check.CONTRACT, "proposal_shape")
    assert reason.state is State.STOPPED
    assert reason.text == (f"a proposed action should have shape (2,), received {np.shape(action)}")


def test_a_proposal_under_another_contract():
    usable, (reason,) = proposed([0.0, 0.0], "f" * 64)
    assert usable is None
    assert (reason.check, reason.code) == (Check.CONTRACT, "proposal_contract")
    assert reason.state is State.STOPPED
    assert reason.text == (
        f"the proposer runs under contract ffffffffffff, the monitor under {CONTRACT.hash[:12]}"
    )


def test_every_fault_of_a_proposal_is_named():
    assert codes(proposed([math.nan, 0.0], "")[1]) == {"proposal_contract", "proposal_not_finite"}
    assert codes(proposed([math.nan], "")[1]) == {"proposal_contract", "proposal_shape"}


def test_cost_to_go():
    reasons = []
    assert look.check_cost_to_go(np.array([1.0, math.nan]), 2, reasons)[0] == 1.0
    assert reasons == []
    assert look.check_cost_to_go(np.array([1.0]), 2, reasons) is None
    (reason,) = reasons
    assert (reason.check, reason.code) == (Check.CONTRACT, "cost_to_go_shape")
    assert reason.state is State.STOPPED
    assert reason.text == "cost-to-go should have shape (2,), received (1,)"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"observation": (ObservationChannel("seen", 3, "1", "observation"),)}, "observation"),
        (
            {
                "signals": (DeclaredSignal("reported_cost", 1, "1"),),
                "costs": (Cost("said", "reported_cost[0]", 1.0, 2.0, 1.0, 1.0),),
            },
            "reported_cost",
        ),
    ],
)
def test_what_a_simulation_alone_can_tell_runs_on_no_robot(changes, named):
    look.require_a_robot(CONTRACT)
    gripped = (*CONTRACT.observation, ObservationChannel("grip", 1, "1", "grip"))
    declared = {"signals": (DeclaredSignal("grip", 1, "1"),), "observation": gripped}
    look.require_a_robot(dataclasses.replace(CONTRACT, **declared))
    contract = dataclasses.replace(CONTRACT, **changes)
    for refuse in (look.require_a_robot, lambda contract: Monitor(contract, LIMITS)):
        with pytest.raises(ContractError) as caught:
            refuse(contract)
        assert str(caught.value) == (
            f"contract of task '{CONTRACT.task}': needs {named}, which a simulation alone can "
            "tell, so it runs on no robot"
        )
