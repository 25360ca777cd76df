"""Signals and the observer: the contract's order, and nothing but the contract's order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.observer import Observer
from holdfast.signals import APPLIED_ACTION, CATALOGUE, EPISODE_LEFT, TRANSFORMS

CHANNELS = (
    ObservationChannel("where", 2, "m", "position"),
    ObservationChannel("turned", 2, "1", "heading", "cos_sin"),
    ObservationChannel("speed", 1, "m/s", "forward_speed"),
    ObservationChannel("last", 1, "1", APPLIED_ACTION),
    ObservationChannel("left", 1, "1", EPISODE_LEFT),
)
EXPECTED = {
    "where": [1.0, 2.0],
    "turned": [0.0, 1.0],
    "speed": [0.5],
    "last": [-0.25],
    "left": [0.75],
}
SIGNALS = {
    "position": np.array([1.0, 2.0]),
    "heading": np.array([np.pi / 2.0]),
    "forward_speed": np.array([0.5]),
    APPLIED_ACTION: np.array([-0.25]),
    EPISODE_LEFT: np.array([0.75]),
    "tilt": np.array([9.0, 9.0]),  # in no channel
}


def contract(channels: tuple[ObservationChannel, ...]) -> Contract:
    return Contract(
        robot="drive",
        task="circle",
        period_s=0.05,
        episode_steps=10,
        observation=channels,
        action=(ActionChannel("forward_speed", "m/s", -1.0, 1.0, 4.0),),
        costs=(Cost("outside", "abs(position.x) > 0.9", 10.0, 30.0, 1.0, 0.95),),
    )


@pytest.mark.parametrize("order", itertools.permutations(range(5), 3))
def test_the_observation_follows_the_contracts_order(order):
    channels = tuple(CHANNELS[i] for i in order)
    observer = Observer(contract(channels))
    expected = np.concatenate([EXPECTED[channel.name] for channel in channels])
    np.testing.assert_allclose(observer(SIGNALS), expected, atol=1e-15)
    assert observer.size == len(expected)


def test_a_batch_is_observed_as_its_rows_are():
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(4, 3, len(value))) for name, value in SIGNALS.items()}
    observer = Observer(contract(CHANNELS))
    together = observer(batch)
    assert together.shape == (4, 3, observer.size)
    for i, j in itertools.product(range(4), range(3)):
        row = observer({name: value[i, j] for name, value in batch.items()})
        np.testing.assert_array_equal(together[i, j], row)


def test_a_signal_may_serve_several_channels():
    twice = (CHANNELS[0], ObservationChannel("again", 2, "m", "position"))
    assert contract(twice).observed_signals == ("position",)
    np.testing.assert_array_equal(Observer(contract(twice))(SIGNALS), [1.0, 2.0, 1.0, 2.0])


def test_a_missing_signal_is_an_error_not_a_guess():
    without = {name: value for name, value in SIGNALS.items() if name != "heading"}
    with pytest.raises(KeyError, match="heading"):
        Observer(contract(CHANNELS))(without)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_gives_the_size_that_it_declares(name):
    function, factor, _ = TRANSFORMS[name]
    for signal in CATALOGUE.values():
        size = signal.size or 3
        assert function(np.zeros((2, size))).shape == (2, size * factor)


def test_cos_sin_lists_all_cosines_then_all_sines():
    function, _, _ = TRANSFORMS["cos_sin"]
    angles = np.array([0.0, np.pi / 6.0])
    np.testing.assert_allclose(function(angles), [1.0, np.sqrt(0.75), 0.0, 0.5], atol=1e-15)


def test_the_catalogue_names_itself():
    for name, signal in CATALOGUE.items():
        assert signal.name == name
        assert signal.size is None or signal.size > 0
        assert signal.frame in ("odom", "base", "")
        assert signal.meaning
    assert APPLIED_ACTION not in CATALOGUE
    assert EPISODE_LEFT not in CATALOGUE
