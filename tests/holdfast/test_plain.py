"""Plain data from files: what a person did not mean is refused, in a sentence, in time."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from holdfast import plain, yaml_file
from holdfast.bundle.contract_file import load_contract
from holdfast.contract import Contract
from holdfast.errors import ConfigError, ContractError
from holdfast.robot import config as configs
from holdfast.robot.run.assembly import default_directory
from holdfast.share import folder
from holdfast.sim.parameters.catalogue import load_gap
from tests.helpers.data.bundles import drive_contract

# YAML.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("5.", 5.0),
        (".5", 0.5),
        ("-1", -1),
        ("+1", 1),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        *((word, word) for word in ("yes", "no", "on", "off", "y", "2026-11-29", "<<", "=")),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ('"true"', "true"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{b: c}", {"b": "c"}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = yaml_file.parse(f"a: {text}").data["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: {c: 2}\na: 3", "line 3: a is there already, in line 1"),
        ("a:\n  b: 1\n  'b': 2", "line 3: a.b is there already, in line 2"),
        ("- a: 1\n  a: 2", "line 2: [0].a is there already, in line 1"),
        ("a: &x 1", "line 1: should be without anchors and aliases (& and *)"),
        ("a: 1\nb: *a", "line 2: should be without anchors and aliases (& and *)"),
        ("a: !!python/name:os.system ''", "line 1: should be without tags, received tag:yaml.org"),
        ("a: !!int '1'", "line 1: should be without tags"),
        ("%YAML 1.1\n---\na: 1", "line 1: should be without directives (%)"),
        ("a: 1\n---\nb: 1", "should be one document, received a second"),
        ("1: a", "line 1: a key should be text, received '1'"),
        ("a:\n  ~: b", "line 2: a: a key should be text, received '~'"),
        ("[a]: b", "line 1: a key should be text, received a list or mapping"),
        ("a: .nan", "line 1: a should be a finite number, received nan"),
        ("a:\n  - -.inf", "line 2: a[0] should be a finite number, received -inf"),
        ("a: 1e999", "line 1: a should be a finite number, received 1e999"),
        (f"a: {'9' * 4000}", "line 1: a should have at most 39 digits, received 999"),
        ("a: [1,\nb", "line 2: should be YAML (expected ',' or ']', but got '<stream end>')"),
        ("a: 1\nb: \x00", "line 2: should be YAML (character #x0000 is not allowed)"),
        ('a: "\\UFFFFFFFF"', "should be YAML (an escape names no character)"),
        ('a: "\\ud800"', "line 1: a should hold whole characters, received \\ud800"),
        ("[" * 3000, "line 1: should nest at most 32 deep"),
        ("- " * 3000, "line 1: should nest at most 32 deep"),
        ("{a: " * 3000, "line 1: should nest at most 32 deep"),
    ],
)
def test_what_nobody_means_is_refused(tmp_path, text, sentence):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        yaml_file.read(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_anchors_eleven_deep_are_refused_at_once(tmp_path):
    """A billion laughs: each line nine times the last one."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "r.yaml").write_text("\n".join(lines))
    began_s = time.process_time()
    with pytest.raises(ConfigError, match="without anchors"):
        yaml_file.read(tmp_path / "r.yaml")
    assert time.process_time() - began_s < 1.0


def test_a_file_is_bounded_and_of_characters(tmp_path):
    (tmp_path / "large.yaml").write_text("a: 1\n#" + "x" * yaml_file.MAX_BYTES)
    with pytest.raises(ConfigError, match=r"large\.yaml: should have at most 262144 bytes"):
        yaml_file.read(tmp_path / "large.yaml")
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="should be UTF-8 text, received byte 0xe9 at offset 3"):
        yaml_file.read(tmp_path / "latin.yaml")


@pytest.mark.parametrize("path", sorted((folder() / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_our_own_files_say_what_they_said(path):
    assert yaml_file.read(path).data == yaml.safe_load(path.read_text())


def text(size):
    """Return texts, but for those like 0E0: numbers in YAML 1.2, unquoted by a writer of 1.1."""
    return st.text(max_size=size).filter(lambda t: not re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", t))


simple = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | text(8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text(5), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(simple)
def test_what_json_holds_both_readers_read(data):
    assert plain.from_json(json.dumps(data)) == data
    assert yaml_file.parse(yaml.safe_dump({"a": data})).data == {"a": data}


def test_a_key_that_is_misspelt_is_named_with_the_right_one(tmp_path):
    text = configs.find("drive").read_text()
    path = tmp_path / "drive.yaml"
    for word, wrong in (("ready_wait_s", "ready_wiat_s"), ("child_frame", "childframe")):
        path.write_text(text.replace(word, wrong))
        with pytest.raises(ConfigError, match=rf"line \d+: .*unknown {wrong}; .*'{word}'\?"):
            configs.load(path)
    path.write_text(text.replace("max_skipped", "max_skiped"))
    with pytest.raises(ConfigError, match=r"unknown max_skiped; did you mean 'max_skipped'\?"):
        configs.load(path)
    path.write_text(text + "\nrobot: other\n")
    with pytest.raises(ConfigError, match=r"robot is there already, in line \d+"):
        configs.load(path)


def test_a_fence_that_is_taken_away_further_down_is_refused(tmp_path):
    path = tmp_path / "drive.yaml"
    text = configs.find("drive").read_text()
    path.write_text(text.replace("  coasting:", "  geofence: null\n  coasting:"))
    with pytest.raises(ConfigError, match=r"line \d+: monitor\.geofence is there already"):
        configs.load(path)


def test_a_gap_says_what_it_should_hold(tmp_path):
    path = tmp_path / "gap.yaml"
    path.write_text("mass: 1.0\ndelay: 1:30\n")
    with pytest.raises(ConfigError, match="line 2: delay should be a number, received '1:30'"):
        load_gap(path)


# JSON.


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": 1, "a": 1}', "key 'a' is there twice"),
        ('{"a": [1, NaN]}', "a[1] should be a finite number, received nan"),
        ("[-Infinity]", "[0] should be a finite number, received -inf"),
        ('{"a": 1e999}', "a should be a finite number, received inf"),
        ("9" * 5000, "should have at most 39 digits"),
        ("[" * 33 + "]" * 33, "should nest at most 32 deep"),
        ("[" * 100_000, "should nest at most 32 deep"),
        ('{"a":' * 100_000, "should nest at most 32 deep"),
        ('["\\ud800"]', "should hold whole characters"),
        ("", "Expecting value"),
    ],
)
def test_json_is_strict_and_bounded(text, sentence):
    with pytest.raises(ValueError) as caught:
        plain.from_json(text)
    assert sentence in str(caught.value)
    with pytest.raises(ContractError, match="contract: should be JSON"):
        Contract.from_json(text)


def test_a_line_that_is_wrong_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"a": 1}\n[1]\n')
    with pytest.raises(ConfigError, match=r"p\.jsonl, line 2: should be a JSON mapping"):
        plain.read_json_lines(tmp_path / "p.jsonl", ConfigError)


@pytest.mark.parametrize(
    ("text", "found"),
    [('{"a": 1}\n{"a"', [1]), ('{"a', []), ('{"a": 1}\n{"a": 2}', [1, 2]), ("", [])],
)
def test_a_last_line_that_is_cut_off_is_left_out(tmp_path, text, found):
    (tmp_path / "p.jsonl").write_text(text)
    lines = plain.read_json_lines(tmp_path / "p.jsonl", ConfigError)
    assert [line["a"] for line in lines] == found
    (tmp_path / "p.jsonl").write_text(text + "\n{}\n")
    if not text.endswith("}"):
        with pytest.raises(ConfigError, match=r"p\.jsonl, line \d: should be JSON"):
            plain.read_json_lines(tmp_path / "p.jsonl", ConfigError)


# Names.


@pytest.mark.parametrize("robot", ["", ".", "../drive", "/etc/passwd", "a/b", "drive.yaml", "a\nb"])
def test_a_robot_is_never_a_path(robot, tmp_path):
    """Its name finds a configuration file."""
    data = json.loads(drive_contract().to_json()) | {"robot": robot}
    with pytest.raises(ContractError, match="robot should be made of letters"):
        Contract.from_json(json.dumps(data))
    (tmp_path / "contract.yaml").write_text(json.dumps(data))
    with pytest.raises(ContractError, match=r"contract\.yaml: (line 1: )?robot should be made of"):
        load_contract(tmp_path / "contract.yaml")
    config = configs.find("drive").read_text().replace("robot: drive", f"robot: {robot!r}", 1)
    (tmp_path / "robot.yaml").write_text(config)
    with pytest.raises(ConfigError, match="robot should be made of"):
        configs.load(tmp_path / "robot.yaml")


@pytest.mark.parametrize("task", ["../../x", "my/../..", "examples/car.py:Car", "/"])
def test_a_task_names_one_folder_for_logs(task):
    place = default_directory(drive_contract(task=task))
    assert place.parent == Path("runs")
    assert plain.is_name(place.name)


def test_names_are_on_one_line():
    with pytest.raises(ContractError, match=r"names should be printable, received 'a\\nb'"):
        drive_contract(task="a\nb")
