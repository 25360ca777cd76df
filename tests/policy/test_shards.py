"""A rollout in shards: what each depends on, and how they are put together."""

import dataclasses

import numpy as np
import pytest

from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.sampling.rollout import Rollout
from holdfast.policy.sampling.shards import SequentialRunner, Shard, side_by_side
from holdfast.sim.registry import resolve

SETTINGS = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, batch=1040, shards=4, critic_steps=5
)


@pytest.fixture
def learner():
    learner = Learner(SETTINGS)
    yield learner
    learner.close()


def run(learner, shard, steps=70):
    return shard.run(learner.batch, learner.policy, learner.normaliser, steps)


def same(a, b):
    return [
        np.array_equal(getattr(a, field.name), getattr(b, field.name))
        for field in dataclasses.fields(a)
    ]


def test_a_shard_depends_on_its_seeds_alone(learner):
    """Not on what ran before it in the same batch; both seeds matter, in starts and in actions."""
    first = run(learner, Shard(7, 0))
    others = [run(learner, shard) for shard in (Shard(7, 1), Shard(8, 0), Shard(0, 7))]
    assert all(same(first, run(learner, Shard(7, 0))))
    for other in others:
        assert not np.array_equal(first.u, other.u)
        assert not np.array_equal(first.observation[0], other.observation[0])


def test_a_shard_leaves_the_batch_s_generator_alone(learner):
    before = learner.batch.rng.bit_generator.state
    run(learner, Shard(7, 0))
    assert learner.batch.rng.bit_generator.state == before


def test_a_shard_s_actions_and_starts_are_not_drawn_alike(learner):
    made = [run(learner, Shard(7, index), 1) for index in range(50)]
    starts = np.array([m.observation[0, :, 0] for m in made]).ravel()
    actions = np.array([m.u[0, :, 0] for m in made]).ravel()
    assert abs(np.corrcoef(starts, actions)[0, 1]) < 0.25  # of 200: 3.5 standard errors


def test_side_by_side_by_hand():
    """Two parts of two copies, two steps; the last observations in the order of `ended`."""

    def part(base, ended):
        steps = base + np.arange(4.0).reshape(2, 2)
        final = (10 * steps)[ended][:, None].astype(np.float32)
        wide = steps[..., None].astype(np.float32)
        return Rollout(wide, wide, steps, steps, wide, ended, ended, final, wide[-1], wide, steps)

    one = part(0, np.array([[False, True], [True, True]]))
    two = part(4, np.array([[True, False], [False, True]]))
    whole = side_by_side([one, two])
    np.testing.assert_array_equal(whole.reward, [[0, 1, 4, 5], [2, 3, 6, 7]])
    np.testing.assert_array_equal(whole.final_observation.ravel(), 10 * whole.reward[whole.ended])
    np.testing.assert_array_equal(whole.last_observation.ravel(), [2, 3, 6, 7])
    np.testing.assert_array_equal(whole.limit[..., 0], whole.reward)
    assert whole.final_observation.dtype == np.float32


def test_the_order_in_which_shards_are_run_changes_nothing(learner):
    class Backwards(SequentialRunner):
        def __call__(self, policy, normaliser, steps, shards):
            return super().__call__(policy, normaliser, steps, shards[::-1])[::-1]

    other = Learner(SETTINGS)
    other.collector.runner = Backwards(other.batch)
    collected = [x.collector.collect(x.policy, x.normaliser, 65) for x in (learner, other)]
    other.close()
    assert all(same(*collected))


def test_shards_are_equal_and_hold_the_batch():
    for shards, copies in ((0, 16), (1, 16), (4, 16), (5, 20)):
        settings = dataclasses.replace(SETTINGS, shards=shards)
        learner = Learner(settings)
        record = learner.iterate()
        learner.close()
        assert record["steps"] == 65 * copies
        assert learner.batch.copies == copies // max(shards, 1)
