"""A range of limits: one put in force, and the contracts that it covers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from holdfast.bundle.limit_range import covers, limits_of, under
from holdfast.contract import Contract, Cost, ObservationChannel
from holdfast.errors import ContractError
from tests.helpers.data.bundles import drive_contract

LEFT = ObservationChannel("budget_left", 1, "1", "budget_left")
OUTSIDE = Cost("outside_corridor", "abs(position.x) > 0.9", 10.0, 30.0, 1.0, 0.95)


def ranged_contract(low=2.0, high=20.0):
    plain = drive_contract()
    cost = dataclasses.replace(OUTSIDE, limit_range=(low, high))
    return dataclasses.replace(plain, costs=(cost,), observation=(*plain.observation, LEFT))


def test_a_contract_without_a_range_is_written_as_ever():
    contract = drive_contract()
    text = contract.to_json()
    assert "limit_range" not in text
    assert Contract.from_json(text).hash == contract.hash
    assert contract.hash.startswith("1bb2866e02527fc1")


def test_a_range_is_written_and_read():
    contract = ranged_contract()
    assert json.loads(contract.to_json())["costs"][0]["limit_range"] == [2.0, 20.0]
    assert Contract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize(
    ("limit_range", "sentence"),
    [
        ((2.0, 9.0), r"'outside_corridor': limit should be in limit_range \[2, 9\], received 10"),
        ((11.0, 20.0), "received 10"),
        ((20.0, 2.0), r"limit_range should be \[low, high\], with low at most high"),
        ((0.0, 20.0), "limit_range should be above 0, received 0.0"),
    ],
)
def test_a_range_that_cannot_be(limit_range, sentence):
    with pytest.raises(ContractError, match=sentence):
        dataclasses.replace(OUTSIDE, limit_range=limit_range)


def test_a_range_is_told_to_the_policy():
    contract = ranged_contract()
    with pytest.raises(ContractError, match="limit_range needs an observation channel of 'budget_"):
        dataclasses.replace(contract, observation=contract.observation[:-1])
    wide = dataclasses.replace(LEFT, size=2)
    with pytest.raises(ContractError, match="channel 'budget_left': size should be 1, received 2"):
        dataclasses.replace(contract, observation=(*contract.observation[:-1], wide))


def test_a_limit_is_put_in_force():
    contract = ranged_contract()
    five = under(contract, (5.0,))
    (cost,) = five.costs
    assert (cost.limit, cost.episode_cap, cost.limit_range) == (5.0, 15.0, (5.0, 5.0))
    assert limits_of(five) == (5.0,)
    assert under(five, (5.0,)) == under(five) == five
    assert under(contract).costs[0].limit == 10.0
    assert dataclasses.replace(five, costs=contract.costs) == contract


def test_a_cap_allows_a_step_and_does_not_depend_on_the_way():
    contract = ranged_contract(0.1, 20.0)
    assert under(contract, (0.1,)).costs[0].episode_cap == 1.0
    for limit in np.linspace(0.7, 20.0, 50).tolist():
        by_way_of = dataclasses.replace(
            contract, costs=(dataclasses.replace(OUTSIDE, limit=limit, episode_cap=3.0 * limit,
                                                 limit_range=(0.1, 20.0)),)
        )  # fmt: skip
        assert under(contract, (7.0,)) == under(by_way_of, (7.0,))


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ((1.9,), r"limit of outside_corridor should be in \[2, 20\], the range .* received 1.9"),
        ((20.5,), "received 20.5"),
        ((1.9999999,), "received 1.9999999"),  # not "2", which is in [2, 20]
        ((float("nan"),), "received nan"),
        ((5.0, 5.0), "limit should have a value for each cost with a range, outside_corridor; rec"),
    ],
)
def test_limits_that_cannot_be_in_force(limits, sentence):
    with pytest.raises(ContractError, match=sentence):
        under(ranged_contract(), limits)


def test_without_a_range_there_is_no_choice():
    assert under(drive_contract()) == drive_contract()
    with pytest.raises(ContractError, match="limit: the policy was trained for one limit alone"):
        under(drive_contract(), (10.0,))


def test_which_contracts_are_covered():
    contract = ranged_contract()
    assert covers(contract, contract)
    assert covers(contract, under(contract, (5.0,)))
    assert covers(contract, under(contract))
    assert not covers(under(contract, (5.0,)), contract)
    assert not covers(under(contract, (5.0,)), under(contract, (6.0,)))
    assert not covers(contract, under(ranged_contract(1.0), (1.5,)))
    assert not covers(contract, drive_contract())
    assert not covers(drive_contract(), contract)
    other = dataclasses.replace(contract, period_s=0.1)
    assert not covers(contract, under(other, (5.0,)))
