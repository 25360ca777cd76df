"""Dataclasses from plain data, and back: each refusal names the place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import yaml_file
from holdfast.errors import ConfigError, LogError
from holdfast.schema import (
    ASCENDING,
    NAME,
    NOT_NEGATIVE,
    POSITIVE,
    PROPER_SHARE,
    MismatchError,
    Range,
    build,
    check,
    read,
    to_plain,
)

Pair = Annotated[tuple[Annotated[float, POSITIVE], Annotated[float, POSITIVE]], ASCENDING]


@dataclass(frozen=True)
class Part:
    kind: Literal["round", "square"]
    size_m: Annotated[float, NOT_NEGATIVE] | None = None

    def __post_init__(self) -> None:
        if self.kind == "square" and self.size_m is None:
            raise ValueError("should have a size_m, being square")


@dataclass(frozen=True)
class Machine:
    name: Annotated[str, NAME]
    parts: tuple[Part, ...] = ()
    count: Annotated[int, Range(1, 9)] = 1
    share: Annotated[float, PROPER_SHARE] = 0.5
    range_m: Pair | None = None
    gains: Mapping[str, float] = field(default_factory=dict)
    spare: bool = False
    places: Mapping[Annotated[str, NAME], Pair] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self, ConfigError, "machine")
        if self.spare and self.parts:
            raise ConfigError("machine: a spare one should have no parts")


WRONG = [
    ([], "m should be a mapping, received []"),
    ({}, "m: missing name"),
    ({"nmae": "a"}, "m: unknown nmae; did you mean 'name'?"),
    ({"name": "a", "cuont": 2}, "m: unknown cuont; did you mean 'count'?"),
    ({"name": "a", "x": 2}, "m: unknown x; known are name, parts, count"),
    ({"name": 1}, "m.name should be text, received 1"),
    ({"name": "a/b"}, "m.name should be made of letters, digits, _ and - alone, received 'a/b'"),
    ({"name": "a", "count": 2.0}, "m.count should be a whole number, received 2.0"),
    ({"name": "a", "count": True}, "m.count should be a whole number, received true"),
    ({"name": "a", "count": 0}, "m.count should be in [1, 9], received 0"),
    ({"name": "a", "share": "0.5"}, "m.share should be a number, received '0.5'"),
    ({"name": "a", "share": True}, "m.share should be a number, received true"),
    ({"name": "a", "share": 1}, "m.share should be in (0, 1), received 1.0"),
    ({"name": "a", "share": math.nan}, "m.share should be a finite number, received nan"),
    ({"name": "a", "share": 10**400}, "m.share should be a finite number, received 1000"),
    ({"name": "a", "spare": 1}, "m.spare should be true or false, received 1"),
    ({"name": "a", "range_m": [1.0]}, "m.range_m should be a list of 2, received [1.0]"),
    ({"name": "a", "range_m": [0.0, 1.0]}, "m.range_m[0] should be above 0, received 0.0"),
    (
        {"name": "a", "range_m": [2.0, 1.0]},
        "m.range_m should be [low, high], with low at most high, received (2.0, 1.0)",
    ),
    ({"name": "a", "gains": {"x": None}}, "m.gains.x should be a number, received null"),
    ({"name": "a", "gains": [1.0]}, "m.gains should be a mapping, received [1.0]"),
    ({"name": "a", "places": {"a b": [1, 2]}}, "m.places.a b should be made of letters"),
    ({"name": "a", "parts": {"kind": "round"}}, "m.parts should be a list, received {'kind'"),
    ({"name": "a", "parts": [{"kind": "oval"}]}, "m.parts[0].kind should be one of round, square"),
    (
        {"name": "a", "parts": [{"kind": None}]},
        "m.parts[0].kind should be one of round, square, received null",
    ),
    (
        {"name": "a", "parts": [{"kind": "round"}, {"kind": "round", "size_m": -1}]},
        "m.parts[1].size_m should be at least 0, received -1.0",
    ),
    (
        {"name": "a", "parts": [{"kind": "square"}]},
        "m.parts[0] should have a size_m, being square",
    ),
    (
        {"name": "a", "spare": True, "parts": [{"kind": "round"}]},
        "machine: a spare one should have no parts",
    ),
]


@pytest.mark.parametrize(("data", "sentence"), WRONG, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_sentence_with_its_place(data, sentence):
    with pytest.raises(LogError) as caught:
        read(Machine, data, "m", LogError)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_file_names_the_line_too(tmp_path):
    path = tmp_path / "machine.yaml"
    for text, sentence in (
        ("name: a\nparts:\n- kind: round\n  size_m: -1\n", "line 4: parts[0].size_m should be at"),
        ("name: a\ncuont: 1\n", "line 2: unknown cuont; did you mean 'count'?"),
        ("name: a\nparts:\n- {kind: square}\n", "line 3: parts[0] should have a size_m"),
        ("name: a\nspare: true\nparts: [{kind: round}]", "machine: a spare one should have no"),
        ("count: 2\n", "missing name"),
        ("- a\n", "should be a mapping, received ['a']"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            yaml_file.load(path, Machine)
        assert str(caught.value).startswith(f"{path}: {sentence}")


def test_what_a_program_wrote_has_every_field():
    assert read(Part, {"kind": "round"}, "part", LogError) == Part("round")
    with pytest.raises(LogError, match="part: missing size_m"):
        read(Part, {"kind": "round"}, "part", LogError, complete=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"count": 10}, r"machine: count should be in \[1, 9\], received 10"),
        ({"share": math.inf}, "machine: share should be a finite number, received inf"),
        ({"range_m": (-1.0, 1.0)}, "machine: range_m should be above 0, received -1.0"),
        ({"gains": {"x": math.nan}}, r"machine: gains\.x should be a finite number, received nan"),
    ],
)
def test_what_python_builds_is_held_to_the_same_ranges(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Machine("a", **changes)


@dataclass(frozen=True)
class Blocks:
    """Data of another shape than the fields: a part for each name."""

    parts: Mapping[str, Part]

    @staticmethod
    def from_plain(data):
        if "none" in data:
            raise ConfigError("blocks should not be none")
        return Blocks({name: build_part(name, part) for name, part in data.items()})


def build_part(name, data):
    try:
        return build(Part, data)
    except MismatchError as wrong:
        raise wrong.within((name,)) from None


@dataclass(frozen=True)
class Factory:
    blocks: Blocks


def test_a_dataclass_that_builds_itself_keeps_places_and_lines(tmp_path):
    path = tmp_path / "factory.yaml"
    for text, sentence in (
        ("blocks:\n  a: {kind: round}\n  b:\n    kind: oval\n", "line 4: blocks.b.kind should be"),
        ("blocks:\n  none: {}\n", "line 1: blocks should not be none"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            yaml_file.load(path, Factory)
        assert str(caught.value).startswith(f"{path}: {sentence}")
    made = read(Factory, {"blocks": {"a": {"kind": "round"}}}, "factory", ConfigError)
    assert made == Factory(Blocks({"a": Part("round")}))


finite = st.floats(allow_nan=False, allow_infinity=False)
parts = st.builds(Part, st.just("round"), st.none() | finite.map(abs))
machines = st.builds(
    Machine,
    name=st.from_regex(NAME.pattern, fullmatch=True),
    parts=st.lists(parts, max_size=3).map(tuple),
    count=st.integers(1, 9),
    gains=st.dictionaries(st.text(max_size=3), finite | st.integers(-9, 9), max_size=3),
    range_m=st.none() | st.just((0.5, 2.0)),
)


@given(machines)
def test_json_holds_them_without_loss(machine):
    text = json.dumps(to_plain(machine), allow_nan=False)
    again = read(Machine, json.loads(text), "machine", LogError, complete=True)
    assert again == machine
    assert json.dumps(to_plain(again)) == text


def test_equal_data_has_one_text():
    texts = {json.dumps(to_plain(Machine("a", gains={"x": x}))) for x in (0, 0.0, -0.0)}
    assert len(texts) == 1
