"""Places that a contract bills by the position alone."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.contract import Cost, DeclaredSignal
from holdfast.expressions import places
from holdfast.safety_monitor.costs import CostModel
from tests.helpers.data.bundles import drive_contract

PLACES = np.array([[0.0, 0.0], [0.9, 5.0], [0.91, 0.0], [-2.0, 0.0], [0.0, 3.0]])


def billed(*expressions, **changes):
    costs = tuple(
        Cost(f"cost_{i}", expression, 10.0, 30.0, 1.0, 0.95, at_most=1.0)
        for i, expression in enumerate(expressions)
    )
    found = places.billed(drive_contract(costs=costs, **changes), PLACES)
    return None if found is None else found.tolist()


@pytest.mark.parametrize(("expressions", "expected"), [
    (["abs(position.x) > 0.9"], [False, False, True, True, False]),
    (["position.y > 1", "position.x < -1"], [False, True, False, True, True]),
    (["position.y > 1", "abs(forward_speed) > 0.4"], [False, True, False, False, True]),
    (["0.5 / position.x > 0"], [True, True, True, False, True]),  # 0.5 / 0 is billed
    (["abs(forward_speed) > 0.4"], None),
    (["(position.x > 0) and (abs(forward_speed) > 0.4)"], None),
])  # fmt: skip
def test_places_are_billed_by_costs_of_the_position_alone(expressions, expected):
    assert billed(*expressions) == expected


def test_a_position_beyond_its_sensors_range_is_taken_for_the_ranges_end():
    reach = DeclaredSignal("position", 2, "m", "odom", low=-1.0, high=1.0)
    assert not any(billed("abs(position.x) > 1.5", signals=(reach,)))


def test_the_monitor_bills_the_same_places():
    contract = drive_contract()
    model = CostModel(contract)
    found = places.billed(contract, PLACES)
    assert found.tolist() == [model.step({"position": place})[0] > 0.0 for place in PLACES.tolist()]
