"""docs/start/YOUR_ROBOT.md, walked through: each of its commands works, and a second time alike."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from holdfast.bundle import reader
from holdfast.cli import main
from holdfast.log.reader import read
from tests.helpers.robots.walk import PAGE, Walk, blocks

SHORT = {
    "200,  # steps of an episode: 10 s": "60,  # steps of an episode: 3 s",
    "--iterations 40 --batch 8000": "--iterations 2 --batch 1800",
    "--episodes 100": "--episodes 8 --anyway",
    "--episodes 60": "--episodes 6",
}
"""The numbers of a walk that takes a minute; a policy of two iterations may miss its limits."""

ONLY_LOOK = ("holdfast check", "holdfast verify", "holdfast show", "holdfast replay")

SAME = (
    *("cart.xml", "cart.py", "cart.yaml", "cart_board.py", "gap.yaml", "graph.yaml"),
    *("runs/cart/checkpoint.safetensors", "runs/cart/policy.onnx"),
    "runs/better/policy.checkpoint.safetensors",
)

pytestmark = pytest.mark.timeout(1200)  # thirty processes, on a computer that others may use


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A walk through the whole page, with smaller numbers."""
    return Walk(tmp_path_factory.mktemp("hour") / "walk", SHORT)()


def test_the_page_s_robot_is_not_part_of_the_package():
    files = {block.label for block in blocks(PAGE.read_text("utf-8")) if block.language != "sh"}
    assert files == {"cart.xml", "cart.py", "gap.yaml", "graph.yaml"}


def test_the_check_says_of_casters_that_grip_what_the_page_says(tmp_path, monkeypatch, capsys):
    page = PAGE.read_text("utf-8")
    (model,) = (block.text for block in blocks(page) if block.label == "cart.xml")
    caster = 'mass="0.1" contype="1" friction="0.01 0.005 0.0001"'
    assert caster in model
    (tmp_path / "cart.xml").write_text(model.replace(caster, 'mass="0.1" contype="1"'))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "cart", "--model", "cart.xml"]) == 0
    assert main(["check", "--task", "cart.py:CartTask"]) == 1
    said = capsys.readouterr().out
    story = " ".join(page.partition("While this page was written")[2].partition("\n\n")[0].split())
    for quoted in re.findall(r'"([^"]+)"', story):
        assert quoted in said


@pytest.mark.slow
def test_every_command_of_the_page_works(walked):
    assert "Nothing of that is implausible." in walked.output("holdfast check --task cart.py:Aisle")
    assert walked.output("holdfast verify").count("\nok ") == 3
    logs = [read(walked.folder / run) for run in ("runs/cart/log", "runs/better/log")]
    assert [len(log.episodes) for log in logs] == [6, 6]
    for log in logs:
        lean = np.concatenate([episode.signals["load_lean"] for episode in log.episodes])
        assert np.ptp(lean) > 0.01  # the signal of its own was measured, and moved
        assert [len(episode.result.costs) for episode in log.episodes] == [2] * 6
    assert (walked.folder / "runs/cart/log/show.html").is_file()
    (episode,) = read(walked.folder / "runs/better/graph").episodes
    assert episode.result.ended == "completed"
    assert np.ptp(episode.signals["load_lean"]) > 0.001


@pytest.mark.slow
def test_a_second_walk_gives_the_same(walked, tmp_path):
    """All but the run in a ROS graph, which is in real time, and what only looks."""
    again = Walk(tmp_path / "again", SHORT, leave_out=("graph", *ONLY_LOOK))()
    for name in SAME:
        assert (walked.folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    children = [reader.load(walk.folder / "runs/better/policy.onnx") for walk in (walked, again)]
    made = [{**child.provenance, "logs": ()} for child in children]  # a log holds the time of day
    assert made[0] == made[1]
    for run in ("runs/cart/log", "runs/better/log"):
        first, second = (read(walk.folder / run) for walk in (walked, again))
        for one, other in zip(first.episodes, second.episodes, strict=True):
            for part in ("observation", "proposed", "applied", "costs"):
                np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
        means = [
            json.loads((walk.folder / run / "summary.json").read_text())["cost_mean"]
            for walk in (walked, again)
        ]
        assert means[0] == means[1]
