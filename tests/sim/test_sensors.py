"""What a robot senses of the things around it, against MuJoCo's rays and against loops."""

import mujoco
import numpy as np
import pytest

from holdfast.sim.tasks.sensors import proximity, scan, seen_from

RANGE_M, RADIUS_M = 3.0, 0.1
SECTOR = np.deg2rad(10.0)


def posts_around(seed, count=8):
    """Return posts none of which the robot at the origin stands in."""
    rng = np.random.default_rng(seed)
    bearing, distance = rng.uniform(-np.pi, np.pi, count), rng.uniform(0.12, 3.5, count)
    return np.stack((distance * np.cos(bearing), distance * np.sin(bearing)), axis=-1)


def mujoco_ranges(posts, angles):
    """Cast a ray at each angle from the origin; the sensor's range where it hits nothing."""
    spec = mujoco.MjSpec()
    for x, y in posts:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[RADIUS_M, 1.0, 0.0], pos=[x, y, 0.0]
        )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    ranges = []
    for angle in angles:
        ray = np.array([np.cos(angle), np.sin(angle), 0.0])
        hit = mujoco.mj_ray(model, data, np.zeros(3), ray, None, 1, -1, np.zeros(1, np.int32))
        ranges.append(RANGE_M if hit < 0.0 else min(hit, RANGE_M))
    return np.array(ranges)


def sector_of(angles):
    return np.rint(np.asarray(angles) / SECTOR).astype(int) % 36


@pytest.mark.parametrize("seed", range(20))
def test_the_scan_is_what_mujoco_s_rays_find(seed):
    """The nearest point of a post in a sector lies at the post's middle or at the sector's edge;
    so rays at those angles are enough, and no ray of a dense fan is shorter."""
    posts = posts_around(seed)
    (ours,) = scan(posts[None, :, 0], posts[None, :, 1], RADIUS_M, RANGE_M)
    edges = (np.arange(36) - 0.5) * SECTOR
    at_edges = mujoco_ranges(posts, edges)
    expected = np.minimum(at_edges, np.roll(at_edges, -1))
    middles = np.arctan2(posts[:, 1], posts[:, 0])
    np.minimum.at(expected, sector_of(middles), mujoco_ranges(posts, middles))
    np.testing.assert_allclose(ours, expected, rtol=0.0, atol=1e-9)

    fan = np.deg2rad(np.arange(-4.95, 355.0, 0.1))  # a hundred rays in each sector
    dense = mujoco_ranges(posts, fan).reshape(36, 100).min(axis=1)
    assert (ours <= dense + 1e-9).all()
    seen = dense < RANGE_M  # a ray along an edge may graze a post that the fan just misses
    assert seen.sum() >= (ours < RANGE_M).sum() - 1 > 0
    np.testing.assert_allclose(ours[seen], dense[seen], atol=0.05)


def test_a_scan_turns_with_the_robot_and_is_every_copy_s_own():
    rng = np.random.default_rng(0)
    position, heading = rng.uniform(-1.0, 1.0, (5, 2)), rng.uniform(-4.0, 4.0, 5)
    posts = np.stack([posts_around(seed) for seed in range(5)])
    together = scan(*seen_from(position, heading, posts), RADIUS_M, RANGE_M)
    for i in range(5):
        alone = scan(
            *seen_from(position[i : i + 1], heading[i : i + 1], posts[i : i + 1]), RADIUS_M, RANGE_M
        )
        np.testing.assert_array_equal(together[i], alone[0])
    turned = scan(*seen_from(position, heading + 3 * SECTOR, posts), RADIUS_M, RANGE_M)
    np.testing.assert_allclose(turned, np.roll(together, -3, axis=1), atol=1e-9)


def test_the_first_sector_is_ahead_and_the_next_to_the_left():
    ahead = scan(np.array([[2.0]]), np.array([[0.0]]), RADIUS_M, RANGE_M)
    assert ahead[0, 0] == pytest.approx(1.9)
    assert (ahead[0, 1:] == RANGE_M).all()
    left = scan(np.array([[0.0]]), np.array([[2.0]]), RADIUS_M, RANGE_M)
    assert left[0].argmin() == 9


def test_what_is_too_far_is_not_there_and_what_is_inside_is_at_zero():
    far = scan(np.array([[9.0, 1e6]]), np.array([[0.0, 1e6]]), RADIUS_M, RANGE_M)
    assert (far == RANGE_M).all()
    inside = scan(np.array([[0.05]]), np.array([[0.0]]), RADIUS_M, RANGE_M)
    assert inside.min() == 0.0
    nothing = scan(np.zeros((2, 0)), np.zeros((2, 0)), RADIUS_M, RANGE_M)
    assert (nothing == RANGE_M).all()


def test_points_are_seen_from_the_base():
    """From (1, 2), facing +y, what lies at (1, 5) is 3 m ahead, and what at (0, 2) 1 m left."""
    points = np.array([[[1.0, 5.0], [0.0, 2.0]]])
    x, y = seen_from(np.array([[1.0, 2.0]]), np.array([np.pi / 2]), points)
    np.testing.assert_allclose(x, [[3.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(y, [[0.0, 1.0]], atol=1e-12)


@pytest.mark.parametrize("sectors", [1, 7, 20])
def test_proximity_is_of_the_nearest_in_each_sector(sectors):
    rng = np.random.default_rng(sectors)
    x, y = rng.uniform(-5.0, 5.0, (2, 30, 6))
    expected = np.zeros((30, sectors))
    for i in range(30):
        for k in range(6):
            distance, bearing = np.hypot(x[i, k], y[i, k]), np.arctan2(y[i, k], x[i, k])
            sector = round(bearing / (2 * np.pi / sectors)) % sectors
            if distance < 4.0:
                expected[i, sector] = max(expected[i, sector], 1.0 - distance / 4.0)
    np.testing.assert_allclose(proximity(x, y, sectors, 4.0), expected, atol=1e-12)
