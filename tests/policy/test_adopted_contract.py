"""The contract file of an adopted policy, and what is tried with it."""

import numpy as np
import pytest

from holdfast import share
from holdfast.bundle.contract_file import load_contract
from holdfast.policy.adopt import probes
from tests.helpers.data.foreign import contract


def test_a_field_with_a_default_may_be_left_out(tmp_path):
    made = load_contract(contract(tmp_path))
    position, _, speeds, turning = made.observation
    assert (position.scale, position.clip, position.history) == (0.5, 2.0, 1)
    assert (speeds.scale, speeds.history, turning.transform) == (1.0, 3, "identity")
    assert (made.costs[0].at_most, made.format, made.signals) == (1.0, 2, ())


def test_probes_span_the_signals_ranges(tmp_path):
    declared = ("observation:", "signals:\n"
                "  - {name: range, size: 4, unit: m, low: 0.25, high: 5}\n"
                "  - {name: load, size: 1, unit: kg, low: 2}\nobservation:\n"
                "  - {name: range, size: 8, unit: m, signal: range, history: 2}\n"
                "  - {name: load, size: 1, unit: kg, signal: load}\n"
                "  - {name: gravity, size: 3, unit: '1', signal: projected_gravity}")  # fmt: skip
    x = probes.observations(load_contract(contract(tmp_path, declared)), 2000)
    near, load, gravity, position = np.split(x, [8, 9, 12], axis=1)[:4]
    assert (near.min(), near.max()) == pytest.approx((0.25, 5.0), abs=0.01)
    assert not np.array_equal(near[:, :4], near[:, 4:])  # two periods
    assert load.min() >= 2.0
    np.testing.assert_allclose(np.linalg.norm(gravity, axis=1), 1.0)
    assert np.abs(position[:, :2]).max() == 2.0  # 0.5 · 10 m, clipped


def test_the_page_s_contract_is_one(tmp_path):
    page = (share.folder() / "docs" / "start" / "ADOPT.md").read_text()
    block = page.partition("```yaml contract.yaml\n")[2].partition("```")[0]
    (tmp_path / "contract.yaml").write_text(block)
    made = load_contract(tmp_path / "contract.yaml")
    assert [channel.size for channel in made.observation] == [2, 2, 3, 1]
    assert made.action_names == ("forward_speed", "yaw_rate")
