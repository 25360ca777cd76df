"""The report's figures."""

from __future__ import annotations

import dataclasses

import matplotlib as mpl
import pytest

from holdfast.log import reader
from holdfast.log.writer import Recorder
from holdfast.policy.demo import pictures
from holdfast.sim.registry import registered
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.recordings import info, record_episode

FREE = mpl.colors.to_rgba("#ecfdf5")


def free_places(tmp_path, expression):
    """Return the outlines of the coloured places, of a robot that drove from x = 0 to 4 m."""
    contract = drive_contract()
    cost = dataclasses.replace(contract.costs[0], expression=expression)
    contract = dataclasses.replace(contract, costs=(cost, *contract.costs[1:]))
    recorder = Recorder(tmp_path / "log", info(contract=contract))
    record_episode(recorder, 0, 5)
    recorder.close()
    log = reader.read(tmp_path / "log")
    figure = pictures.paths_figure(log, log, registered("DriveCircle-v0").make())
    return [
        path.vertices
        for axes in figure.axes
        for drawn in axes.collections
        if len(drawn.get_facecolor()) and tuple(drawn.get_facecolor()[0]) == FREE
        for path in drawn.get_paths()
        if len(path.vertices)
    ]


@pytest.mark.parametrize(("expression", "left", "right"), [
    ("abs(position.x) > 0.9", -0.9, 0.9),
    ("position.x > 2.5", None, 2.5),
    ("abs(position.x) > 1000", None, None),
])  # fmt: skip
def test_places_without_cost_are_coloured(tmp_path, expression, left, right):
    outlines = free_places(tmp_path, expression)
    assert len(outlines) == 2
    for outline in outlines:
        if left is not None:
            assert outline[:, 0].min() == pytest.approx(left, abs=0.02)
        if right is not None:
            assert outline[:, 0].max() == pytest.approx(right, abs=0.02)
        else:
            assert outline[:, 0].max() > 4.0


@pytest.mark.parametrize("expression", ["position.x < 1000", "abs(forward_speed) > 0.4"])
def test_nothing_is_coloured_where_every_place_costs_or_place_alone_does_not_say(
    tmp_path, expression
):
    assert free_places(tmp_path, expression) == []
