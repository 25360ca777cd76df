import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT

from holdfast.contract import DeclaredSignal
from holdfast.errors import ContractError
from holdfast.safety_monitor.costs import CostModel


def with_cost(*signals, **changes):
    cost = dataclasses.replace(CONTRACT.costs[0], **changes)
    return dataclasses.replace(CONTRACT, costs=(cost,), signals=signals)


def priced(expression, *signals, **values):
    """Return the costs of one robot's numbers, which are those of arrays."""
    model = CostModel(with_cost(*signals, expression=expression))
    arrays = {name: np.array(numbers) for name, numbers in values.items()}
    (cost,) = model.step({name: array.tolist() for name, array in arrays.items()})
    np.testing.assert_array_equal(model(arrays), [cost])
    return cost


def test_costs_keep_the_contract_s_order_and_any_leading_shape():
    cost_model = CostModel(CONTRACT)
    assert cost_model.signals == ("position",)
    assert cost_model.largest == (1.0, 1.0)
    np.testing.assert_array_equal(cost_model({"position": np.array([1.5, 0.0])}), [1.0, 0.0])
    many = cost_model({"position": np.array([[[0.0, 0.0], [1.5, 0.0], [-2.5, 0.0]]])})
    np.testing.assert_array_equal(many, [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])


@pytest.mark.parametrize("x", [0.0, 1.0, np.nextafter(1.0, 2.0), -1.5, 2.0, -2.5])
def test_one_step_of_one_robot_costs_the_same(x):
    cost_model = CostModel(CONTRACT)
    signals, values = {"position": np.array([x, 9.0])}, {"position": [float(x), 9.0]}
    assert cost_model.step(values) == tuple(cost_model(signals).tolist())
    assert all(type(cost) is float for cost in cost_model.step(values))
    assert cost_model(signals).dtype == np.float64


def test_a_signal_of_the_contract_s_own_is_billed():
    load = DeclaredSignal("payload_mass", 1, "kg")
    assert priced("payload_mass > 2", load, payload_mass=[2.5]) == 1.0
    assert priced("payload_mass / 2", load, payload_mass=[0.5]) == 0.25


def test_a_reading_beyond_its_sensor_s_range_is_the_range_s_end():
    """As in training, where nothing was said beyond it."""
    reach = DeclaredSignal("height", 1, "m", "odom", low=0.0, high=3.0)
    assert priced("height / 3", reach, height=[6.0]) == 1.0
    assert priced("height / 3", reach, height=[-6.0]) == 0.0
    assert priced("height / 3", reach, height=[1.5]) == 0.5
    assert priced("height / 6", dataclasses.replace(reach, high=None), height=[6.0]) == 1.0


def test_a_number_that_is_not_finite_has_no_cost():
    assert math.isnan(priced("abs(position.x) > 1", position=[math.nan, 0.0]))


def test_what_nobody_can_bound_is_unbounded():
    costs = DeclaredSignal("reported_cost", 2, "1")
    contract = with_cost(costs, expression="reported_cost[1]", at_most=None)
    model = CostModel(contract)
    assert model.largest == (math.inf,)
    np.testing.assert_array_equal(model({"reported_cost": np.array([0.0, 7.5])}), [7.5])


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("positon.x > 1", "did you mean 'position'"),
        ("open(1)", "open"),
        ("position > 1", "the cost should be one number"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_the_contract(expression, sentence):
    with pytest.raises(ContractError, match=sentence):
        with_cost(expression=expression)
