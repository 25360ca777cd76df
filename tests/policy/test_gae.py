"""Advantages by hand."""

import numpy as np

from holdfast.policy.sampling.gae import advantages


def test_by_hand_with_two_discounts():
    """Two steps, one copy; reward with γ = λ = ½ and cost with γ = 1, λ = 0, side by side."""
    gains = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])
    value = np.array([[[10.0, 1.0]], [[20.0, 5.0]]])
    following = np.array([[[20.0, 5.0]], [[40.0, 7.0]]])
    ended = np.zeros((2, 1), bool)
    result = advantages(gains, value, following, ended, np.array([0.5, 1.0]), np.array([0.5, 0.0]))
    # δ: reward 1+10−10 = 1, 3+20−20 = 3; cost 2+5−1 = 6, 4+7−5 = 6.
    np.testing.assert_allclose(result[1, 0], [3.0, 6.0])
    np.testing.assert_allclose(result[0, 0], [1.0 + 0.25 * 3.0, 6.0])


def test_nothing_crosses_the_end_of_an_episode():
    gains = np.array([[1.0], [1.0], [100.0]])
    value, following = np.zeros((3, 1)), np.zeros((3, 1))
    ended = np.array([[False], [True], [False]])
    result = advantages(gains, value, following, ended, 1.0, 1.0)
    np.testing.assert_allclose(result[:, 0], [2.0, 1.0, 100.0])


def test_lambda_one_is_the_return_minus_the_value():
    rng = np.random.default_rng(0)
    gains, value = rng.normal(size=(2, 50, 3))
    following = np.concatenate((value[1:], np.zeros((1, 3))))
    ended = np.zeros((50, 3), bool)
    ended[-1] = True
    result = advantages(gains, value, following, ended, 0.9, 1.0)
    discounted = sum(0.9**t * gains[t] for t in range(50))
    np.testing.assert_allclose(result[0], discounted - value[0])
