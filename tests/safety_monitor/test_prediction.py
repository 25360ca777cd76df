import json
import math

import numpy as np
import pytest
from monitor_rig import Rig, limits, states

from holdfast import schema
from holdfast.errors import BundleError
from holdfast.safety_monitor import Prediction, State, fit_prediction
from holdfast.safety_monitor.prediction import shortfall

NINE = Prediction((tuple(map(float, range(1, 10))),))
"""Of nine episodes, whose costs were short by 1 to 9."""


def test_plain_data_is_read_and_written_without_loss():
    rng = np.random.default_rng(0)
    ahead = [rng.random((5, 2)) for _ in range(4)]
    fitted = fit_prediction(ahead, [rng.random((5, 2)) for _ in range(4)], 5)
    for one in (NINE, fitted):
        assert schema.build(Prediction, json.loads(json.dumps(schema.to_plain(one)))) == one
    assert [len(episodes) for episodes in fitted.shortfalls] == [4, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "prediction: missing shortfalls"),
        ({"shortfalls": [], "more": 1}, "prediction: unknown more"),
        ({"shortfalls": [[1.0, "2"]]}, r"prediction.shortfalls\[0\]\[1\] should be a number"),
        ({"shortfalls": [[2.0, 1.0]]}, "shortfalls of each cost should be ascending"),
        ({"shortfalls": [[1.0], [2.0, 1.0]]}, "shortfalls of each cost should be ascending"),
        ({"shortfalls": [[0.0], [math.nan]]}, "should be a finite number"),
    ],
)
def test_malformed_data_is_refused(data, message):
    with pytest.raises(BundleError, match=message):
        schema.read(Prediction, data, "prediction", BundleError, complete=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_shortfalls_are_finite(value):
    with pytest.raises(BundleError, match="prediction: shortfalls should be a finite number"):
        Prediction(((0.0,), (1.0, value)))


def test_a_prediction_of_other_costs_is_refused():
    with pytest.raises(BundleError, match="prediction: should be of 2 costs, received 1"):
        Rig(prediction=NINE)


@pytest.mark.parametrize(
    ("coverage", "margin"), [(0.01, 1.0), (0.1, 1.0), (0.11, 2.0), (0.5, 5.0), (0.9, 9.0)]
)
def test_the_margin_is_the_conformal_quantile(coverage, margin):
    assert NINE.margin(coverage) == (margin,)
    assert Prediction(NINE.shortfalls * 2).margin(coverage) == (margin, margin)


def test_a_coverage_that_so_few_episodes_cannot_show():
    with pytest.raises(BundleError) as caught:
        NINE.margin(0.95)
    assert str(caught.value) == (
        "prediction: a coverage of 0.95 takes at least 19 episodes; it was calibrated on 9"
    )
    with pytest.raises(BundleError, match="takes at least"):
        Rig(limits(episode_coverage=0.95), prediction=Prediction(NINE.shortfalls * 2))


def test_shortfalls_by_hand():
    """Four steps that cost 1, 0, 2 and 1; with nothing expected, 4, 3, 3 and 1 are to come."""
    costs = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    nothing = np.zeros((4, 2))
    roots = np.sqrt([1.0, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(shortfall(nothing, costs, 4)[:, 0], [4, 3, 3, 1] / roots)
    np.testing.assert_allclose(shortfall(nothing - 9.0, costs, 4)[:, 0], [4, 3, 3, 1] / roots)
    np.testing.assert_allclose(shortfall(nothing + 2.0, costs, 4)[:, 0], [2, 1, 1, -1] / roots)
    np.testing.assert_allclose(shortfall(nothing + 2.0, costs, 4)[:, 1], [-2, -2, -2, -2] / roots)
    # An episode that ended after four of eight steps.
    early = np.sqrt([1.0, 0.875, 0.75, 0.625])
    np.testing.assert_allclose(shortfall(nothing, costs, 8)[:, 0], [4, 3, 3, 1] / early)


def test_of_each_episode_the_largest_shortfall_counts():
    costs = [np.full((4, 1), c) for c in (0.5, 0.25, 1.0)]
    fitted = fit_prediction([np.zeros((4, 1))] * 3, costs, 4)
    assert fitted.shortfalls == ((1.0, 2.0, 4.0),)


def walk(rng, count, steps=40):
    """Episodes that cost 1 while a walk is above a line; the critic knows their mean alone."""
    walks = np.cumsum(rng.normal(size=(count, steps)), axis=1) > 2.0
    ahead = np.linspace(12.0, 0.0, steps)[:, None]
    return [ahead] * count, [each[:, None].astype(float) for each in walks]


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_prediction_covers_as_many_episodes_as_is_asked(coverage):
    rng, covered = np.random.default_rng(1), []
    for _ in range(20):
        margin = fit_prediction(*walk(rng, 60), 40).margin(coverage)[0]
        new = fit_prediction(*walk(rng, 50), 40).shortfalls[0]
        covered.append(np.mean(np.array(new) <= margin))
    # 1,000 episodes, but the calibrations count as 20: each is Beta-distributed about its mean.
    assert coverage - 0.05 <= np.mean(covered) <= coverage + 0.07


def test_the_monitor_predicts_with_the_margin_that_its_limits_ask_for():
    both = Prediction(NINE.shortfalls * 2)
    for coverage, margin in ((0.1, 1.0), (0.5, 5.0)):
        rig = Rig(limits(episode_coverage=coverage), prediction=both).to_active()
        verdict = rig.step((0.1, 0.0), cost_to_go=np.array([0.5, 0.25]))
        assert verdict.budget.predicted == (0.5 + margin, 0.25 + margin)
        expected = {} if margin == 1.0 else {"slowdown_budget": State.LIMITED}
        assert states(verdict.reasons) == expected  # 3 are allowed of the second
    assert Rig().to_active().step(cost_to_go=np.array([0.5, 0.25])).budget.predicted == (0.5, 0.25)


def test_the_margin_shrinks_as_the_episode_goes_on_and_is_gone_at_its_end():
    rig = Rig(limits(episode_coverage=0.5), prediction=Prediction(NINE.shortfalls * 2)).to_active()
    predicted = [rig.step(cost_to_go=np.array([0.0, 0.0])).budget.predicted[0] for _ in range(42)]
    left = [max(40 - step, 0) for step in range(42)]
    expected = [min(5.0 * math.sqrt(steps / 40.0), steps) for steps in left]
    np.testing.assert_allclose(predicted, expected, rtol=1e-14)
