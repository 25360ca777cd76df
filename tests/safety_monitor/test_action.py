import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_rig import CONTRACT

from holdfast.contract import ActionChannel
from holdfast.safety_monitor.action import ActionLimits

LIMITS = ActionLimits(CONTRACT)
"""forward_speed in [-1, 1], by at most 0.2 a step; yaw_rate in [-2, 2], by at most 1."""

DENSE = [math.nextafter(v, to) for v in (-1.0, -0.2, 0.0, 0.2, 1.0, 2.0) for to in (-9, v, 9)]


@pytest.mark.parametrize("previous", DENSE)
@pytest.mark.parametrize("proposed", [*DENSE, 1e308, -1e308])
def test_it_is_the_contract_s_to_the_bit_at_each_limit(previous, proposed):
    expected = CONTRACT.admissible(np.array([previous] * 2), np.array([proposed] * 2))
    assert LIMITS.admissible([previous] * 2, [proposed] * 2) == expected.tolist()


PAIR = st.tuples(*[st.floats(-3.0, 3.0) | st.sampled_from(DENSE)] * 2).map(list)


@given(PAIR, PAIR)
def test_it_is_the_contract_s_to_the_bit(previous, proposed):
    expected = CONTRACT.admissible(np.array(previous), np.array(proposed))
    assert LIMITS.admissible(previous, proposed) == expected.tolist()
    clipped = np.clip(proposed, CONTRACT.action_low, CONTRACT.action_high)
    assert LIMITS.clip(proposed) == clipped.tolist()


def test_a_channel_may_have_one_direction():
    one = ActionChannel("forward_speed", "m/s", 0.0, 0.5, 2.0)
    limits = ActionLimits(
        dataclasses.replace(CONTRACT, action=(one,), observation=CONTRACT.observation[:2])
    )
    assert limits.clip([-0.1]) == [0.0]
    assert limits.clip([0.6]) == [0.5]
    assert limits.admissible([0.05], [-0.1]) == [0.0]
    assert limits.admissible([0.5], [-0.1]) == [0.4]


def test_as_many_values_as_channels():
    for call in (lambda: LIMITS.clip([0.0]), lambda: LIMITS.admissible([0.0], [0.0, 0.0])):
        with pytest.raises(ValueError, match="zip"):
            call()
