import dataclasses

import numpy as np
import pytest
from monitor_rig import CONTRACT

from holdfast.errors import ContractError
from holdfast.safety_monitor.costs import FUNCTIONS, Bill, corridor


def with_cost(**changes):
    cost = dataclasses.replace(CONTRACT.costs[0], **changes)
    return dataclasses.replace(CONTRACT, costs=(cost,))


def test_the_corridor_costs_beyond_its_edge_on_both_sides():
    x = np.array([0.0, 0.9, np.nextafter(0.9, 1), 5.0])
    position = np.stack((x, np.full(4, 99.0)), axis=-1)
    for sign in (1.0, -1.0):
        costs = corridor({"position": sign * position}, x_limit_m=0.9)
        np.testing.assert_array_equal(costs, [0.0, 0.0, 1.0, 1.0])


def test_a_bill_keeps_the_contract_s_order_and_any_leading_shape():
    bill = Bill(CONTRACT)
    assert bill.signals == ("position",)
    assert bill.largest == (1.0, 1.0)
    np.testing.assert_array_equal(bill({"position": np.array([1.5, 0.0])}), [1.0, 0.0])
    many = bill({"position": np.array([[[0.0, 0.0], [1.5, 0.0], [-2.5, 0.0]]])})
    np.testing.assert_array_equal(many, [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])


@pytest.mark.parametrize("x", [0.0, 1.0, np.nextafter(1.0, 2.0), -1.5, 2.0, -2.5])
def test_one_step_of_one_robot_costs_the_same(x):
    bill, signals = Bill(CONTRACT), {"position": np.array([x, 9.0])}
    assert bill.step(signals) == tuple(bill(signals).tolist())
    assert all(type(cost) is float for cost in bill.step(signals))
    assert bill(signals).dtype == np.float64


def test_an_unknown_function_is_refused():
    with pytest.raises(ContractError) as caught:
        Bill(with_cost(function="coridor"))
    assert str(caught.value) == (
        f"cost 'outside': function should be one of {', '.join(FUNCTIONS)}, received 'coridor'"
    )


@pytest.mark.parametrize(
    ("parameters", "received"),
    [({}, "none"), ({"x_limit_m": 1.0, "y_limit_m": 2.0}, "x_limit_m, y_limit_m")],
)
def test_other_parameters_are_refused(parameters, received):
    with pytest.raises(ContractError) as caught:
        Bill(with_cost(parameters=parameters))
    assert str(caught.value) == (
        f"cost 'outside': parameters should be x_limit_m, received {received}"
    )
