import dataclasses
import json
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, LIMITS, Rig, drift_of, limits, seen, states

from holdfast import schema
from holdfast.contract import ObservationChannel
from holdfast.errors import BundleError
from holdfast.safety_monitor import Check, Familiarity, Monitor, State, fit_familiarity
from holdfast.safety_monitor.familiarity import RIDGE, Drift

PLAIN = {
    "mean": [1.0, 2.0],
    "whitening": [[2.0, 0.0], [0.0, 1.0]],
    "reference": 4.0,
    "threshold": 3.0,
    "false_alarm_rate": 0.01,
    "episodes": 100,
    "logged": 40,
}
FAMILIAR = schema.build(Familiarity, PLAIN)


def episodes(rng, count, steps=60, shift=0.0):
    """Episodes of a correlated walk in three channels, one of them the sum of the others."""
    noise = rng.normal(size=(count, steps, 2))
    walk = np.zeros_like(noise)
    for t in range(1, steps):
        walk[:, t] = 0.9 * walk[:, t - 1] + noise[:, t]
    both = walk.sum(axis=2, keepdims=True)
    return np.concatenate((walk + shift, both + 2.0 * shift), axis=2)


def crossed(familiarity, batch):
    """Return the share of episodes whose CUSUM passes the threshold."""
    drift, count = Drift(familiarity, ()), 0
    for episode in batch:
        drift.forget()
        largest = 0.0
        for observation in episode:
            drift.add(observation)
            largest = max(largest, drift.total)
        count += largest > familiarity.threshold
    return count / len(batch)


def test_plain_data_is_read_and_written_without_loss():
    fitted = fit_familiarity(episodes(np.random.default_rng(0), 40), 0.1)
    for one in (FAMILIAR, fitted):
        assert schema.build(Familiarity, json.loads(json.dumps(schema.to_plain(one)))) == one
    assert schema.to_plain(FAMILIAR) == PLAIN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [1.0]}, "whitening should be 1 rows of 1"),
        ({"mean": [], "whitening": []}, "whitening should be 0 rows of 0, n at least 1"),
        ({"whitening": [[1.0, 0.0]]}, "whitening should be 2 rows of 2"),
        ({"whitening": [[1.0], [0.0, 1.0]]}, "whitening should be 2 rows of 2"),
        ({"reference": 0.0}, "familiarity.reference should be above 0, received 0.0"),
        ({"threshold": 0.999}, "familiarity.threshold should be at least 1, received 0.999"),
        ({"mean": [math.nan, 0.0]}, "should be a finite number"),
        ({"mean": None}, "familiarity.mean should be a list"),
        ({"more": 1.0}, "familiarity: unknown more"),
    ],
)
def test_malformed_data_is_refused(change, message):
    with pytest.raises(BundleError, match=message):
        schema.read(Familiarity, {**PLAIN, **change}, "familiarity", BundleError, complete=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_are_finite(value):
    eye = ((1.0,),)
    for mean, whitening in (((value,), eye), ((0.0,), ((value,),))):
        with pytest.raises(BundleError, match=r"(mean|whitening) should be a finite number"):
            Familiarity(mean, whitening, 1.0, 1.0, 0.1, 1, 0)
    for reference, threshold in ((value, 1.0), (1.0, value)):
        with pytest.raises(BundleError, match=r"(reference|threshold) should be a finite number"):
            Familiarity((0.0,), eye, reference, threshold, 0.1, 1, 0)
    assert Familiarity((0.0,), eye, 1.0, 1.0, 0.1, 1, 0).threshold == 1.0


def test_a_monitor_refuses_a_familiarity_of_other_observations():
    with pytest.raises(BundleError, match="should be of 7 observed values, received 2"):
        Rig(familiarity=FAMILIAR)


# The CUSUM, by hand: the distance of (1 + a, 2 + b) is 4 a^2 + b^2, the reference 4.


@pytest.mark.parametrize(
    ("a", "b", "oddness"),
    [(0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (1.0, 1.0, 0.25), (0.0, 99.0, 1.0)],
)
def test_oddness(a, b, oddness):
    drift = Drift(FAMILIAR, ())
    drift.add(np.array([1.0, 9.0]))
    drift.add(np.array([1.0, 9.0]))
    assert drift.total == 2.0
    drift.add(np.array([1.0 + a, 2.0 + b]))
    assert drift.total == 2.0 + oddness


def test_the_total_stays_between_zero_and_what_is_soon_forgotten():
    drift = Drift(FAMILIAR, ())
    for _ in range(3):
        drift.add(np.array([1.0, 2.0]))
        assert drift.total == 0.0
    for _ in range(50):
        drift.add(np.array([1.0, 99.0]))
    assert drift.total == 7.0


def test_slow_beyond_the_threshold_and_stop_beyond_twice():
    drift, said = Drift(FAMILIAR, ()), []
    for _ in range(7):
        told = seen()
        told.observation = np.array([1.0, 99.0])
        drift.judge(told)
        said.append(states(told.reasons).get("unfamiliar"))
        assert all(reason.check is Check.FAMILIARITY for reason in told.reasons)
    assert said == [None] * 3 + [State.LIMITED] * 3 + [State.FALLBACK]
    assert told.reasons[0].text == (
        "observations have been unlike those of training: 7.0, ordinary up to 3.0"
    )
    drift.forget()
    assert drift.total == 0.0


# Fitting.


def test_whitened_training_data_has_unit_covariance_and_zero_mean():
    rng = np.random.default_rng(1)
    mixing = np.array([[2.0, 0.0], [1.5, 0.5]])
    data = rng.normal(size=(40, 50, 2)) @ mixing.T + [3.0, -1.0]
    fitted = fit_familiarity(data, 0.1)
    seen = data[1::2].reshape(-1, 2)
    white = (seen - fitted.mean) @ np.array(fitted.whitening).T
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=1e-12)
    covariance = np.cov(white.T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(2), atol=0.01)
    assert covariance[0, 0] == pytest.approx(1.0 / (1.0 + RIDGE), rel=1e-5)
    # Chi-square with two degrees of freedom: -2 ln 0.01.
    assert fitted.reference == pytest.approx(9.21, rel=0.15)
    assert (fitted.false_alarm_rate, fitted.episodes, fitted.logged) == (0.1, 20, 0)


def test_a_channel_that_never_moved_is_measured_by_a_thousandth():
    data = np.concatenate(
        (np.random.default_rng(2).normal(size=(40, 50, 1)), np.ones((40, 50, 1))), 2
    )
    fitted = fit_familiarity(data, 0.1)
    assert fitted.whitening[1][1] == pytest.approx(1000.0, rel=1e-6)


CALM = np.array([[-1.0], [1.0]])


def odd(steps):
    """An episode whose CUSUM reaches so much where mean and variance are those of CALM."""
    return np.array([[0.0]] * (steps % 3) + [[99.0]] * steps + [[0.0]])


def alternating(*steps):
    """Episodes of which every other one, from the first, calibrates; the rest are calm."""
    return [each for count in steps for each in (odd(count), CALM)]


RATES = ((0.1, 9.0), (0.2, 8.0), (0.5, 5.0), (0.85, 2.0))


@pytest.mark.parametrize(("rate", "expected"), RATES)
def test_the_threshold_is_the_conformal_quantile_of_every_other_episode(rate, expected):
    fitted = fit_familiarity(alternating(5, 3, 8, 1, 2, 9, 4, 7, 6), rate)
    assert fitted.threshold == expected
    assert (fitted.episodes, fitted.logged) == (9, 0)


@pytest.mark.parametrize(("rate", "expected"), RATES)
def test_the_higher_threshold_holds_for_simulated_and_logged_episodes(rate, expected):
    low, high = alternating(*(1,) * 10), alternating(5, 3, 8, 1, 2, 9, 4, 7, 6)
    for one, other in ((low, high), (high, low)):
        fitted = fit_familiarity(one, rate, other)
        assert fitted.threshold == expected
        assert (fitted.episodes, fitted.logged) == (len(one) // 2, len(other) // 2)


def test_logged_observations_are_known_too():
    rng = np.random.default_rng(7)
    robot = episodes(rng, 60, shift=12.0)
    alone = fit_familiarity(episodes(rng, 60), 0.1)
    both = fit_familiarity(episodes(rng, 60), 0.1, robot)
    new = [episodes(rng, 60), episodes(rng, 60, shift=12.0)]
    assert [crossed(alone, batch) for batch in new] == [pytest.approx(0.1, abs=0.12), 1.0]
    assert all(crossed(both, batch) <= 0.22 for batch in new)
    assert crossed(both, episodes(rng, 30, shift=-12.0)) == 1.0


def test_of_an_odd_number_the_larger_half_calibrates():
    data = episodes(np.random.default_rng(3), 19)
    assert fit_familiarity(data, 0.1).episodes == 10
    with pytest.raises(BundleError, match="takes about 20 episodes, received 17"):
        fit_familiarity(data[:17], 0.099)
    assert fit_familiarity(data, 0.1, data).logged == 10
    with pytest.raises(BundleError, match="takes about 20 episodes, received 17"):
        fit_familiarity(data, 0.099, data[:17])


def test_one_sample_alone_is_never_enough():
    calm = [np.array([[-1.0], [1.0], [0.0], [0.5], [0.2]])] * 20
    assert fit_familiarity(calm, 0.2).threshold == 1.0


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_false_alarms_are_as_rare_as_stated(rate):
    rng = np.random.default_rng(4)
    shares = [
        crossed(fit_familiarity(episodes(rng, 80), rate), episodes(rng, 50)) for _ in range(12)
    ]
    # 600 episodes; the bound is on the mean over calibrations.
    assert np.mean(shares) <= rate + 3.0 * math.sqrt(rate * (1.0 - rate) / 600)


def test_a_drift_is_noticed():
    rng = np.random.default_rng(5)
    fitted = fit_familiarity(episodes(rng, 100), 0.05)
    assert crossed(fitted, episodes(rng, 30, shift=12.0)) == 1.0
    broken = episodes(rng, 30)
    broken[:, 30:, 2] += 3.0  # the third channel no longer is the sum of the others
    assert crossed(fitted, broken) == 1.0


@pytest.mark.parametrize(
    ("data", "rate", "message"),
    [
        ([], 0.1, r"arrays of shape \(steps, n\)"),
        ([np.zeros(3)], 0.1, r"arrays of shape \(steps, n\)"),
        ([np.zeros((0, 3))] * 40, 0.1, r"arrays of shape \(steps, n\)"),
        ([np.ones((4, 3)), np.zeros(3)] * 20, 0.1, r"arrays of shape \(steps, n\)"),
        ([np.zeros((4, 3))], 0.9, "takes about 2 episodes, received 1"),
        ([np.zeros((4, 3))] * 17, 0.09, "takes about 22 episodes, received 17"),
        ([np.zeros((4, 3))] * 40, 0.0, "false_alarm_rate should be between 0 and 1, received 0.0"),
        ([np.zeros((4, 3))] * 40, 1.0, "false_alarm_rate should be between 0 and 1, received 1.0"),
        ([np.full((4, 3), math.nan)] * 40, 0.1, "episodes should be finite"),
        ([*[np.ones((4, 2))] * 39, np.array([[0.0, math.inf]])], 0.1, "episodes should be finite"),
    ],
)
def test_what_cannot_be_fitted(data, rate, message):
    with pytest.raises(BundleError, match=message):
        fit_familiarity(data, rate)


# In the monitor. The rig's observation has seven values; the first is x.

AT_X = Familiarity(
    (0.0,) * 7,
    tuple(tuple(float(i == j and i == 0) for j in range(7)) for i in range(7)),
    reference=1.0,
    threshold=2.0,
    false_alarm_rate=0.01,
    episodes=100,
    logged=0,
)


def test_one_odd_observation_does_not_slow_the_robot_but_a_drift_stops_it():
    rig = Rig(familiarity=AT_X).to_active()
    for x, state in ((0.9, State.ACTIVE), (-0.9, State.ACTIVE), (0.0, State.ACTIVE)):
        rig.x_m = x
        assert rig.step((0.2, 0.0)).state is state
    seen = []
    for _ in range(6):
        rig.x_m = 1.5  # squared over the reference, less 1, clipped: odd by 1
        seen.append(rig.step((0.2, 0.0)).state)
    assert seen[:5] == [State.ACTIVE] * 2 + [State.LIMITED] * 2 + [State.FALLBACK]


def test_familiarity_is_judged_only_while_moving_and_anew_with_each_arming():
    rig = Rig(familiarity=AT_X).to_ready()
    rig.x_m = 1.5
    for _ in range(9):
        assert rig.step().reasons == ()
    for _ in range(2):
        rig.monitor.arm(rig.look())
        for _ in range(2):
            assert rig.step().state is State.ACTIVE
        assert rig.step().state is State.LIMITED
        rig.monitor.disarm()
        rig.step()


def test_an_episode_begins_familiar():
    rig = Rig(familiarity=AT_X).to_active()
    rig.x_m = 1.5
    rig.step()
    rig.monitor.disarm()
    rig.monitor.begin_episode(rig.now_s)
    assert drift_of(rig).total == 0.0


def test_what_cannot_be_observed_is_not_judged_strange():
    rig = Rig(familiarity=AT_X).to_active()
    rig.tick()
    assert "unfamiliar" not in states(rig.step(sources=rig.read(position=None)).reasons)
    assert drift_of(rig).total == 0.0


def test_nothing_but_what_is_observed_needs_to_be_measured():
    observation = (
        *CONTRACT.observation[:2],
        ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
    )
    bare = limits(
        geofence=None,
        forward_speed_m_s=None,
        yaw_rate_rad_s=None,
        tilt_rad=None,
        tracking_error={},
    )
    eye = tuple(tuple(float(i == j == 0) for j in range(5)) for i in range(5))
    known = Familiarity((0.0,) * 5, eye, 1.0, 2.0, 0.01, 100, 0)
    contract = dataclasses.replace(CONTRACT, observation=observation)
    rig = Rig(bare, contract, familiarity=known).to_active()
    rig.x_m = 1.5
    rig.tick()
    assert rig.step(sources=rig.read(yaw_rate=None, tilt=None)).state is State.ACTIVE
    assert drift_of(rig).total == 1.0


def test_without_familiarity_nothing_is_strange():
    rig = Rig().to_active()
    rig.x_m = 3.0
    assert rig.step().state is State.ACTIVE
    assert isinstance(rig.monitor, Monitor)
    assert LIMITS is not None
