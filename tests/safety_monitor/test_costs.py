import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT

from holdfast.errors import ContractError
from holdfast.safety_monitor.costs import (
    FUNCTIONS,
    CostModel,
    bombs,
    clearance,
    corridor,
    reported,
    speeding,
    tilting,
)
from holdfast.signals import CATALOGUE


def with_cost(**changes):
    cost = dataclasses.replace(CONTRACT.costs[0], **changes)
    return dataclasses.replace(CONTRACT, costs=(cost,))


def test_the_corridor_costs_beyond_its_edge_on_both_sides():
    x = np.array([0.0, 0.9, np.nextafter(0.9, 1), 5.0])
    for sign in (1.0, -1.0):
        costs = corridor({"position": (sign * x, np.full(4, 99.0))}, x_limit_m=0.9)
        np.testing.assert_array_equal(costs, [0.0, 0.0, 1.0, 1.0])


def test_a_bomb_costs_once_a_step_however_many_are_taken():
    taken = np.array([[0.0, 1.0, 3.0]])
    np.testing.assert_array_equal(bombs({"bombs_taken": taken}), [0.0, 1.0, 1.0])


def test_a_blind_sector_may_hide_something():
    scan = np.full((36, 2), 3.0)
    scan[7, 1] = math.nan
    np.testing.assert_array_equal(clearance({"scan": scan}, clearance_m=0.35), [0.0, 1.0])
    assert float(clearance({"scan": [0.0] * 36}, clearance_m=0.35)) == 1.0
    assert float(clearance({"scan": [0.35] * 36}, clearance_m=0.35)) == 0.0


def test_what_is_nearer_than_the_clearance_costs_in_whatever_sector():
    scan = np.full((36, 36), 3.0)
    scan[range(36), range(36)] = np.nextafter(0.35, 0.0)
    np.testing.assert_array_equal(clearance({"scan": scan}, clearance_m=0.35), np.ones(36))
    scan[range(36), range(36)] = 0.35
    np.testing.assert_array_equal(clearance({"scan": scan}, clearance_m=0.35), np.zeros(36))
    both = np.stack((scan[0], np.zeros(36)), axis=1)
    np.testing.assert_array_equal(clearance({"scan": both}, clearance_m=0.35), [0.0, 1.0])


def test_speeding_costs_forwards_and_backwards():
    speed = np.array([[0.0, 0.4, np.nextafter(0.4, 1), -0.4, -0.5]])
    costs = speeding({"forward_speed": speed}, speed_m_s=0.4)
    np.testing.assert_array_equal(costs, [0.0, 0.0, 1.0, 0.0, 1.0])


def test_leaning_costs_to_whatever_side():
    lean = np.nextafter(0.2, 1)
    angles = np.array([[0.2, -0.2], [lean, 0.0], [-lean, 0.0], [0.0, lean], [0.0, -lean]])
    costs = tilting({"tilt": angles.T}, tilt_rad=0.2)
    np.testing.assert_array_equal(costs, [0.0, 1.0, 1.0, 1.0, 1.0])


def test_what_a_simulation_reports_is_billed_as_it_says():
    said = {"reported_cost": np.array([[0.0, 0.25], [7.5, 0.0]])}
    np.testing.assert_array_equal(reported(said, index=1.0), [7.5, 0.0])
    np.testing.assert_array_equal(reported(said, index=0.0), [0.0, 0.25])
    assert FUNCTIONS["reported"].largest == math.inf


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"reported"}))
def test_a_function_reads_and_costs_what_it_says(name):
    """Between 0 and its largest, from nothing else; of a robot's numbers as of many's arrays."""
    function = FUNCTIONS[name]
    parameters = dict.fromkeys(function.parameters, 1.0)
    rng = np.random.default_rng(0)
    rows = rng.uniform(-2.0, 2.0, (4, 30))
    many = {s: rows + rng.uniform(-0.5, 0.5, (CATALOGUE[s].size, 4, 30)) for s in function.signals}
    costs = function.evaluate(many, **parameters)
    assert costs.shape == (4, 30)
    assert costs.min() == 0.0
    assert costs.max() == function.largest
    for place in np.ndindex(4, 30):
        one = {s: values[(slice(None), *place)].tolist() for s, values in many.items()}
        assert function.evaluate(one, **parameters) == costs[place]


def test_a_bill_keeps_the_contract_s_order_and_any_leading_shape():
    cost_model = CostModel(CONTRACT)
    assert cost_model.signals == ("position",)
    assert cost_model.largest == (1.0, 1.0)
    np.testing.assert_array_equal(cost_model({"position": np.array([1.5, 0.0])}), [1.0, 0.0])
    many = cost_model({"position": np.array([[[0.0, 0.0], [1.5, 0.0], [-2.5, 0.0]]])})
    np.testing.assert_array_equal(many, [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])


@pytest.mark.parametrize("x", [0.0, 1.0, np.nextafter(1.0, 2.0), -1.5, 2.0, -2.5])
def test_one_step_of_one_robot_costs_the_same(x):
    cost_model, signals, values = (
        CostModel(CONTRACT),
        {"position": np.array([x, 9.0])},
        {"position": [x, 9.0]},
    )
    assert cost_model.step(values) == tuple(cost_model(signals).tolist())
    assert all(type(cost) is float for cost in cost_model.step(values))
    assert cost_model(signals).dtype == np.float64


def test_a_function_without_parameters_takes_none():
    assert CostModel(with_cost(function="bombs", parameters={})).signals == ("bombs_taken",)
    with pytest.raises(ContractError) as caught:
        CostModel(with_cost(function="bombs", parameters={"x_limit_m": 1.0}))
    assert str(caught.value) == ("cost 'outside': parameters should be none, received x_limit_m")


def test_an_unknown_function_is_refused():
    with pytest.raises(ContractError) as caught:
        CostModel(with_cost(function="coridor"))
    assert str(caught.value) == (
        f"cost 'outside': function should be one of {', '.join(FUNCTIONS)}, received 'coridor'"
    )


@pytest.mark.parametrize(
    ("parameters", "received"),
    [({}, "none"), ({"x_limit_m": 1.0, "y_limit_m": 2.0}, "x_limit_m, y_limit_m")],
)
def test_other_parameters_are_refused(parameters, received):
    with pytest.raises(ContractError) as caught:
        CostModel(with_cost(parameters=parameters))
    assert str(caught.value) == (
        f"cost 'outside': parameters should be x_limit_m, received {received}"
    )
