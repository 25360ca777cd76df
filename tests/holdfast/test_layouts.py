"""The layouts for Foxglove and Lichtblick, against a log as it is written."""

from __future__ import annotations

import numbers
import re

import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from holdfast.log.format import SCHEMAS, STEP_TOPIC
from holdfast.log.writer import Recorder
from holdfast.safety_monitor.messages import State
from tests.helpers.data import layouts
from tests.helpers.data.recordings import info, record_episode


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """Return the messages of a log by topic, as another library reads them."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    recorder = Recorder(folder, info())
    recorder.event(100.0, "arm", "", "")
    record_episode(recorder, 0, 5)
    recorder.close()
    found = {}
    with (folder / f"{folder.name}_0.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, channel, _, message in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append(message)
    return found


@pytest.mark.parametrize("name", ["log", "live"])
def test_a_layout_shows_each_of_its_panels_once(name):
    layout = layouts.load(name)
    shown = list(layouts.shown(layout["layout"]))
    assert sorted(shown) == sorted(layout["configById"])


def panels(name, kind):
    found = layouts.load(name)["configById"]
    return [panel for key, panel in found.items() if key.startswith(kind)]


@pytest.mark.parametrize(("topic", "fields"), layouts.paths(layouts.load("log")))
def test_the_log_has_what_its_layout_names(messages, topic, fields):
    assert topic in messages
    for message in messages[topic]:
        layouts.value(message, fields)


def test_plots_are_of_numbers(messages):
    plotted = layouts.paths({"configById": dict(enumerate(panels("log", "Plot!")))})
    assert len(plotted) >= 9
    for topic, fields in plotted:
        found = [layouts.value(message, fields) for message in messages[topic]]
        assert all(isinstance(number, numbers.Real) for number in found)


def test_the_whole_log_is_shown_but_for_its_settings(messages):
    named = {topic for topic, _ in layouts.paths(layouts.load("log"))}
    assert named == set(messages) - {"holdfast/run"}


def test_3d_panels_are_given_only_what_they_draw():
    for topic in layouts.in_3d(layouts.load("log")):
        assert SCHEMAS[topic][0] in layouts.DRAWN


def test_viewers_find_the_names_of_the_monitors_states():
    """Lichtblick takes the constants directly before a field, of its type, for its names."""
    _, definition = SCHEMAS[STEP_TOPIC]
    (before,) = re.findall(r"((?:uint8 \w+=\d+\n)+)uint8 state ", definition)
    assert dict(re.findall(r"(\w+)=(\d+)", before)) == {s.name: str(s.value) for s in State}


def test_a_wrong_field_is_found(messages):
    with pytest.raises(AttributeError):
        layouts.value(messages["odom"][0], ".twist.linear.x")
    with pytest.raises(IndexError):
        layouts.value(messages["holdfast/step"][0], ".costs[7]")
