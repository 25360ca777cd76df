"""The contract: strict, canonical, and the same limits for simulator and robot."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from holdfast.contract import (
    ActionChannel,
    Contract,
    Cost,
    DeclaredSignal,
    ObservationChannel,
    Recovery,
)
from holdfast.errors import ContractError
from holdfast.signals import APPLIED_ACTION, CATALOGUE, EPISODE_LEFT, TRANSFORMS


def test_a_limit_that_no_episode_can_reach_is_told():
    """250 steps of at most 1 or 2 each; what has no known bound may cost anything."""
    (cost,) = example().costs

    def told(**changes: Any) -> tuple[str, ...]:
        one = dataclasses.replace(cost, episode_cap=1e6, **changes)
        return dataclasses.replace(example(), costs=(one,)).idle_limits

    assert (
        told(limit=249.9) == told(limit=499.0, at_most=2.0) == told(limit=1e5, at_most=None) == ()
    )
    (sentence,) = told(limit=250.0)
    assert sentence == (
        f"cost '{cost.name}': limit 250 should be below 250, the most that an episode of 250 steps "
        "can cost; as it is, it limits nothing"
    )
    assert len(told(limit=500.0, at_most=2.0)) == 1


def example() -> Contract:
    return Contract(
        robot="drive",
        task="circle",
        period_s=0.05,
        episode_steps=250,
        observation=(
            ObservationChannel("position", 2, "m", "position"),
            ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
            ObservationChannel("last", 2, "1", APPLIED_ACTION),
            ObservationChannel("left", 1, "1", EPISODE_LEFT),
        ),
        action=(
            ActionChannel("forward_speed", "m/s", -0.5, 1.0, 4.0),
            ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
        ),
        costs=(Cost("outside", "abs(position.x) > 0.9", 10.0, 30.0, 1.0, 0.95),),
        signals=(DeclaredSignal("payload_mass", 1, "kg", "base", 0.0, 40.0),),
        recovery=Recovery("brake", {"deceleration_m_s2": 1.0}),
    )


def data() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(example().to_json())
    return plain


def every_mapping(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every mapping whose keys the contract prescribes."""
    found = []
    if isinstance(node, dict) and path[-1:] != ("parameters",):
        found.append(path)
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(child, (dict, list)):
            found += every_mapping(child, (*path, key))
    return found


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


EVERY_KEY = [(*path, key) for path in every_mapping(data()) for key in at(data(), path)]


def refusal(changed: Any) -> str:
    """Return the one sentence with which a contract is refused."""
    with pytest.raises(ContractError) as caught:
        Contract.from_json(json.dumps(changed))
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    return sentence


def name_of(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


@pytest.mark.parametrize("path", EVERY_KEY, ids=name_of)
def test_a_missing_key_is_named(path):
    changed = data()
    del at(changed, path[:-1])[path[-1]]
    assert f"missing {path[-1]}" in refusal(changed)


@pytest.mark.parametrize("path", every_mapping(data()), ids=name_of)
def test_an_unknown_key_is_named(path):
    changed = data()
    at(changed, path)["colour"] = "red"
    assert "unknown colour" in refusal(changed)


OPTIONAL = {"clip": float, "reward": str}
"""What may be null, and is what else."""


def of_other_types(path: tuple[Any, ...]) -> list[Any]:
    right = OPTIONAL.get(path[-1]) or type(at(data(), path))
    return [value for value in (True, [1], "text", 1.5, {"a": 1}) if type(value) is not right]


@pytest.mark.parametrize("path", EVERY_KEY, ids=name_of)
def test_a_value_of_another_type_is_refused_where_it_stands(path):
    for wrong in of_other_types(path):
        check_refused(path, wrong)


def check_refused(path: tuple[Any, ...], wrong: Any) -> None:
    changed = data()
    at(changed, path[:-1])[path[-1]] = wrong
    sentence = refusal(changed)
    assert path[-1] in sentence
    assert "should be" in sentence


WRONG_VALUES = [
    (("format",), 1, "format should be 2, received 1; write the costs of another format"),
    (("period_s",), 0, "period_s should be in [1e-06, 60]"),
    (("period_s",), float("nan"), "period_s should be a finite number, received nan"),
    (("period_s",), 10**400, "should have at most 39 digits"),
    (("episode_steps",), 0, "contract.episode_steps should be at least 1, received 0"),
    (("observation",), [], "observation should list at least one entry"),
    (("action",), [], "action should list at least one entry"),
    (("costs",), [], "costs should list at least one entry"),
    (("observation", 0, "name"), "heading", "observation names should be unique"),
    (("action", 0, "name"), "yaw_rate", "action names should be unique"),
    (("observation", 0, "size"), 3, "'position': size should be 2, received 3"),
    (("observation", 1, "size"), 1, "'heading': size should be 2, received 1"),
    (("observation", 2, "size"), 1, "'last': size should be 2, received 1"),
    (("observation", 3, "size"), 2, "'left': size should be 1, received 2"),
    (("observation", 0, "unit"), "cm", "'position': unit should be 'm', received 'cm'"),
    (("observation", 1, "unit"), "rad", "'heading': unit should be '1', received 'rad'"),
    (("observation", 0, "signal"), "altitude", "signal should be one of position, heading"),
    (("observation", 0, "transform"), "log", "transform should be one of identity, cos_sin"),
    (("action", 0, "low"), float("-inf"), "action[0].low should be a finite number"),
    (("action", 0, "low"), 1.0, "low 1.0 should be below high 1.0"),
    (("action", 0, "low"), 0.5, "limits [0.5, 1.0] should include 0"),
    (("action", 0, "max_rate_per_s"), 0.0, "max_rate_per_s should be above 0"),
    (("costs", 0, "limit"), -1.0, "contract.costs[0].limit should be at least 0, received -1.0"),
    (("costs", 0, "episode_cap"), 9.0, "episode_cap 9.0 should be at least the limit"),
    (("costs", 0, "gamma"), 1.01, "gamma should be in [0, 1]"),
    (("costs", 0, "lam"), -0.01, "lam should be in [0, 1]"),
    (("costs", 0, "expression"), "abs(positon.x) > 1", "did you mean 'position'"),
    (("costs", 0, "expression"), "scan.min <", "cost 'outside'"),
    (("costs", 0, "at_most"), 0.0, "at_most should be above 0, received 0.0"),
    (("reward",), "position", "reward"),
    (("observation", 0, "scale"), 0.0, "scale should not be 0"),
    (("observation", 0, "clip"), -1.0, "clip should be above 0, received -1.0"),
    (("observation", 0, "history"), 0, "history should be in [1, 100], received 0"),
    (("observation", 0, "history"), 2, "'position': size should be 4, received 2"),
    (("signals", 0, "name"), "scan", "should be as the catalogue has it: size 36, unit 'm'"),
    (("signals", 0, "name"), "applied_action", "the name is taken"),
    (("signals", 0, "name"), "a-b", "should be made of letters, digits and _"),
    (("signals", 0, "size"), 0, "size should be in [1, 100000], received 0"),
    (("signals", 0, "name"), "lambda", "and be no word of Python"),
    (("signals", 0, "high"), -1.0, "low 0.0 should be below high -1.0"),
    (("recovery", "parameters"), {"gain": float("inf")}, "gain should be a finite number"),
]


@pytest.mark.parametrize(("path", "wrong", "sentence"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_what_would_be_right(path, wrong, sentence):
    changed = data()
    at(changed, path[:-1])[path[-1]] = wrong
    assert sentence in refusal(changed)


def joints(size: int, transform: str = "identity", name: str = "joints") -> ObservationChannel:
    unit = "rad" if transform == "identity" else "1"
    return ObservationChannel(name, size, unit, "joint_position", transform)


def with_channels(*channels: ObservationChannel) -> Contract:
    contract = example()
    return dataclasses.replace(contract, observation=(*contract.observation, *channels))


def test_how_many_joints_a_robot_has_is_the_contracts_to_say():
    contract = with_channels(joints(6, "cos_sin"), joints(3, name="again"))
    assert contract.signal_size("joint_position") == 3
    assert contract.signal_size("position") == 2
    assert contract.signal_size("joint_velocity") is None


@pytest.mark.parametrize(
    ("channels", "sentence"),
    [
        ((joints(5, "cos_sin"),), "'joints': size should be 4, received 5"),
        (
            (joints(4), joints(3, name="again")),
            "'again': signal 'joint_position' should have the 4 values that another channel says",
        ),
    ],
)
def test_a_number_of_joints_that_cannot_be_is_refused(channels, sentence):
    with pytest.raises(ContractError, match=re.escape(sentence)):
        with_channels(*channels)


def test_an_action_named_as_a_signal_has_the_signal_s_unit():
    changed = data()
    changed["action"][0]["unit"] = "km/h"
    assert "'forward_speed': unit should be 'm/s'" in refusal(changed)


@pytest.mark.parametrize("kind", ["observation", "action", "costs", "signals"])
def test_no_list_is_so_long_that_reading_it_takes_long(kind):
    changed = data()
    changed[kind] = [{**changed[kind][0], "name": f"a{i}"} for i in range(1001)]
    assert "entries, received 1001" in refusal(changed)


@pytest.mark.parametrize("kind", ["observation", "signals"])
def test_no_size_is_larger_than_a_robot_s(kind):
    changed = data()
    changed[kind][0]["size"] = 10**38
    assert "size should be in [1, 100000]" in refusal(changed)


def test_two_costs_of_one_name_are_refused():
    changed = data()
    changed["costs"] *= 2
    assert "costs names should be unique, received outside, outside" in refusal(changed)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"contract"', "null"])
def test_what_is_no_json_mapping_is_refused(text):
    with pytest.raises(ContractError, match=r"contract:? should be (JSON|a mapping)"):
        Contract.from_json(text)


@pytest.mark.parametrize("field", ["low", "high", "max_rate_per_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_contract_built_in_python_is_as_strict(field, value):
    channel = example().action[0]
    with pytest.raises(ContractError, match="action channel 'forward_speed'"):
        dataclasses.replace(channel, **{field: value})


def test_parameters_built_in_python_are_finite():
    sentence = r"recovery 'brake': parameters\.gain should be a finite"
    with pytest.raises(ContractError, match=sentence):
        Recovery("brake", {"gain": float("inf")})


def test_recovery_is_optional():
    without = dataclasses.replace(example(), recovery=None)
    assert Contract.from_json(without.to_json()) == without
    assert without.hash != example().hash


# One text and one hash.


def test_the_text_is_canonical():
    text = example().to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert len(example().hash) == 64


def test_the_hash_is_fixed_for_good():
    """Logs and bundles carry it: if this changes, `FORMAT` has to change."""
    name = "40bd996f9177f1c0c7f0255ae8d964ef27517b0b47c1959eeec04c3c30fda341"
    assert example().hash == name


def test_key_order_and_spaces_do_not_matter():
    def backwards(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: backwards(node[key]) for key in reversed(list(node))}
        return [backwards(item) for item in node] if isinstance(node, list) else node

    text = json.dumps(backwards(data()), indent=3)
    assert Contract.from_json(text).hash == example().hash


def test_10_and_10_0_are_one_number():
    cost = example().costs[0]
    whole = dataclasses.replace(cost, limit=10, episode_cap=30, gamma=1, at_most=1)
    real = dataclasses.replace(cost, gamma=1.0, at_most=1.0)
    texts = [dataclasses.replace(example(), costs=(c,)).to_json() for c in (whole, real)]
    assert texts[0] == texts[1]
    changed = data()
    changed["costs"][0]["limit"] = 10
    assert Contract.from_json(json.dumps(changed)).hash == example().hash


def test_minus_zero_is_zero():
    one_way = dataclasses.replace(example().action[0], low=-0.0)
    other_way = dataclasses.replace(example().action[0], low=0.0)
    assert one_way == other_way
    hashes = {
        dataclasses.replace(example(), action=(c, example().action[1])).hash
        for c in (one_way, other_way)
    }
    assert len(hashes) == 1


CHANGES = {
    "robot": "tank",
    "task": "square",
    "recovery": None,
    "period_s": 0.04,
    "episode_steps": 251,
    "expression": "abs(position.x) > 0.91",
    "limit": 10.5,
    "episode_cap": 30.5,
    "gamma": 0.99,
    "lam": 0.9,
    "low": -0.4,
    "high": 0.9,
    "max_rate_per_s": 4.5,
    "name": "renamed",
}
FREE = [path for path in EVERY_KEY if path[-1] in CHANGES]


@pytest.mark.parametrize("path", FREE, ids=name_of)
def test_everything_counts_in_the_hash(path):
    changed = data()
    at(changed, path[:-1])[path[-1]] = CHANGES[path[-1]]
    assert Contract.from_json(json.dumps(changed)).hash != example().hash


# Any contract at all.

names = st.text(min_size=1, max_size=12).filter(str.isprintable)
plain_names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-6, max_value=1e6)
parameters = st.dictionaries(names, finite, max_size=3)


@st.composite
def action_channels(draw: st.DrawFn) -> ActionChannel:
    low = draw(st.floats(min_value=-1e6, max_value=0.0))
    high = draw(positive)
    name = draw(names)
    unit = CATALOGUE[name].unit if name in CATALOGUE else draw(names)
    return ActionChannel(name, unit, low, high, draw(positive))


@st.composite
def observation_channels(draw: st.DrawFn, actions: int) -> ObservationChannel:
    signal = draw(st.sampled_from([*CATALOGUE, APPLIED_ACTION, EPISODE_LEFT]))
    transform = draw(st.sampled_from([*TRANSFORMS]))
    sizes = {APPLIED_ACTION: (actions, "1"), EPISODE_LEFT: (1, "1")}
    size, unit = sizes.get(signal) or (CATALOGUE[signal].size or 3, CATALOGUE[signal].unit)
    _, factor, other_unit = TRANSFORMS[transform]
    return ObservationChannel(draw(names), size * factor, other_unit or unit, signal, transform)


EXPRESSIONS = st.sampled_from(("abs(position.x) > 0.9", "scan.min < 0.5", "hypot(tilt.roll, 1)"))


@st.composite
def costs(draw: st.DrawFn) -> Cost:
    share = st.floats(min_value=0.0, max_value=1.0)
    limit = draw(st.floats(min_value=0.0, max_value=1e6))
    budget = limit + draw(positive)
    return Cost(draw(names), draw(EXPRESSIONS), limit, budget, draw(share), draw(share))


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    def some(items: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        unique = st.lists(items, min_size=1, max_size=4, unique_by=lambda item: item.name)
        return tuple(draw(unique))

    action = some(action_channels())
    return Contract(
        robot=draw(plain_names),
        task=draw(names),
        period_s=draw(st.floats(min_value=1e-6, max_value=60.0)),
        episode_steps=draw(st.integers(min_value=1, max_value=10**6)),
        observation=some(observation_channels(len(action))),
        action=action,
        costs=some(costs()),
        recovery=draw(st.none() | st.builds(Recovery, names, parameters)),
    )


@given(contracts())
def test_a_contract_survives_its_text(contract):
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.to_json() == contract.to_json()
    assert again.hash == contract.hash
    assert again.observation_size == sum(c.size for c in contract.observation)


@given(contracts(), st.data())
def test_an_admissible_action_is_within_limits_and_rate(contract, draws):
    low, high, step = contract.action_low, contract.action_high, contract.action_max_step
    n = contract.action_size
    unit = stnp.arrays(np.float64, (3, n), elements=st.floats(0.0, 1.0))
    previous = np.clip(low + draws.draw(unit) * (high - low), low, high)
    proposed = draws.draw(stnp.arrays(np.float64, (3, n), elements=finite))
    action = contract.admissible(previous, proposed)
    assert np.all((low <= action) & (action <= high))
    assert np.all((previous - step <= action) & (action <= previous + step))
    np.testing.assert_array_equal(contract.admissible(previous, action), action)
    free = np.clip(proposed, np.maximum(low, previous - step), np.minimum(high, previous + step))
    np.testing.assert_array_equal(action, free)  # no further from the proposal than it must be


@given(contracts(), st.floats(-1.0, 1.0))
def test_normalised_actions_span_minus_one_to_one(contract, share):
    np.testing.assert_allclose(contract.normalised(contract.action_low), -1.0, atol=1e-9)
    np.testing.assert_allclose(contract.normalised(contract.action_high), 1.0, atol=1e-9)
    action = contract.action_center + share * contract.action_half_range
    np.testing.assert_allclose(contract.normalised(action), share, atol=1e-9)


def test_the_example_in_numbers():
    contract = example()
    assert contract.observation_size == 7
    assert contract.action_size == 2
    assert contract.observed_signals == ("position", "heading")
    np.testing.assert_allclose(contract.action_center, [0.25, 0.0])
    np.testing.assert_allclose(contract.action_half_range, [0.75, 2.0])
    np.testing.assert_allclose(contract.action_max_step, [0.2, 1.0])
    moved = contract.admissible(np.array([0.0, 0.0]), np.array([5.0, -0.5]))
    np.testing.assert_allclose(moved, [0.2, -0.5])


@pytest.mark.parametrize("limit", ["5", None, [5.0]])
def test_a_limit_that_is_no_number_is_refused_in_a_person_s_own_code(limit):
    with pytest.raises(
        ContractError, match="cost 'far': limit should be a finite number, received"
    ):
        Cost("far", "abs(position.x) > 1.0", limit=limit, episode_cap=15.0, gamma=0.99, lam=0.95)
