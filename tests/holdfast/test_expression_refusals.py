"""What the language of costs refuses, and in what words; units and declared signals."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from holdfast.errors import ContractError
from holdfast.expressions import CostExpression, SignalSpec, catalogue, checker, units
from holdfast.expressions.tree import COMPONENTS
from holdfast.signals import CATALOGUE

SIGNALS = catalogue({"joint_velocity": 4, "joint_position": 1})
OWN = {
    spec.name: spec
    for spec in (
        SignalSpec("force", 3, "N", ("x", "y", "z")),
        SignalSpec("wheel_torque", 2, "N*m"),
        SignalSpec("current", 1, "A"),
        SignalSpec("voltage", 1, "V"),
        SignalSpec("acceleration", 1, "m/s^2"),
        SignalSpec("mass", 1, "kg"),
        SignalSpec("area", 1, "m2"),
        SignalSpec("smell", 1, "smell"),
        SignalSpec("rate", 1, "Hz"),
        SignalSpec("min", 1, "m"),
    )
}
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "COSTS.md").read_text("utf-8")

FUNCTION = (
    "a function should be one of abs, min, max, hypot, clip, sqrt, sin, "
    "cos, sum, norm, any, all, received"
)
NUMBER = "a number should be written like 2, 0.5 or 1e-3, received"
EXPONENT = "an exponent should be a whole number from 1 to 8, or 0.5, received"
RANGE = "values of scan should be first:end with 0 <= first < end <= 36, received"
COMPARISON = "a comparison should be one of <, <=, >, >=, ==, !=, received"
FOR = "'for' is not in the language; any, all, sum, norm, min and max take whole signals"
ONE = (
    "the cost should be one number, received 36; any, all, sum, norm, min "
    "and max make one of several"
)
NAMES = "names should be made of letters, digits and _ and be no word of Python, received"
UNIQUE = "components should be unique and none of min, max, received"
COMPLETE = "the expression should be complete and well-formed, received"


def refusal(text, signals=SIGNALS):
    with pytest.raises(ContractError) as caught:
        CostExpression(text, signals)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "column 1: the expression should read a signal, received ''"),
        ("()", "column 1: the expression should read a signal, received '()'"),
        *(
            (
                f"height > {written}",
                "column 10: a number should have no unit: it is in the SI unit of what it is "
                f"compared with; write {number} alone, received '{written}'",
            )
            for number, written in (
                ("0.5", "0.5 m"),
                ("0.5", "0.5m"),
                ("50", "50 cm"),
                ("90", "90deg"),
                (".5", ".5  rad"),
                ("2", "2 Hz"),
            )
        ),
        ("2 + 3", "column 1: the cost should read a signal, received '2 + 3'"),
        ("height > ", f"column 9: {COMPLETE} its end"),
        ("> height", f"column 1: {COMPLETE} '> height'"),
        ("(height", "column 1: '(' should be closed, received no bracket"),
        ("height)", "column 7: ')' should close a bracket, received none to close"),
        ("height) + (1", "column 7: ')' should close a bracket, received none to close"),
        (
            "hight > 1",
            "column 1: a name should be a signal, received 'hight'; did you mean 'height'?",
        ),
        (
            "tilt.rol > 1",
            "column 1: a component of tilt should be one of roll, pitch, min, max, "
            "received 'rol'; did you mean 'roll'?",
        ),
        (
            "abs > 1",
            "column 1: a function should be followed by ( and its arguments, received 'abs'",
        ),
        ("sqr(height)", f"column 1: {FUNCTION} 'sqr'; did you mean 'sqrt'?"),
        (
            "height.real.imag",
            "column 1: only a signal's name should come before . and [, received 'height.real'",
        ),
        (
            "scan[0][0]",
            "column 1: only a signal's name should come before . and [, received 'scan[0]'",
        ),
        ("scan[-1] > 1", "column 6: an index should be a whole number, received '-1'"),
        ("scan[1.0] > 1", "column 6: an index should be a whole number, received '1.0'"),
        ("scan[True] > 1", "column 6: an index should be a whole number, received 'True'"),
        ("scan[36] > 1", "column 6: an index of scan should be from 0 to 35, received 36"),
        ("sum(scan[3:3])", f"column 10: {RANGE} 3:3"),
        ("sum(scan[0:9:2])", f"column 10: {RANGE} 0:9:2"),
        ("sum(scan[0:37])", f"column 10: {RANGE} 0:37"),
        ("sum(scan[0:x])", "column 12: an index should be a whole number, received 'x'"),
        ("True and height > 1", "column 1: a number should be written in digits, received 'True'"),
        ("... and (...)", "column 1: a number should be written in digits, received '...'"),
        ("height > 1_000", f"column 10: {NUMBER} '1_000'"),
        ("height > 0x10", f"column 10: {NUMBER} '0x10'"),
        ("height > 1j", f"column 10: {NUMBER} '1j'"),
        ("1or height > 1", f"column 1: {NUMBER} '1or'"),
        ("height > 1e999", "column 10: a constant should be finite, received '1e999'"),
        (
            "height > 1" + "0" * 400,
            "column 10: a constant should be finite, received '1" + "0" * 56 + "...'",
        ),
        (
            "height > 1e200 * 1e200",
            "column 10: a constant should be finite, received '1e200 * 1e200'",
        ),
        ("height > sqrt(-1)", "column 10: a constant should be finite, received 'sqrt(-1)'"),
        ("height > 1 / (1 - 1)", "column 15: a divisor should not be 0, received '1 / (1 - 1)'"),
        ("height ** 9", f"column 11: {EXPONENT} 9.0"),
        ("height ** -1", f"column 11: {EXPONENT} -1.0"),
        ("height ** height", f"column 11: {EXPONENT} height"),
        ("height // 2", "column 1: an operator should be one of +, -, *, /, **, received FloorDiv"),
        ("height is height", f"column 1: {COMPARISON} Is"),
        ("height in scan", f"column 1: {COMPARISON} In"),
        (
            "height > 1 and 1 < 2",
            "column 16: a comparison should read a signal, received 1.0 < 2.0",
        ),
        ("not height", "column 1: not should have comparisons, received the number height"),
        ("height > 1 and 1", "column 1: and should have comparisons, received the number 1.0"),
        ("any(scan)", "column 1: any should have comparisons, received the number scan"),
        ("scan > 1", f"column 1: {ONE}"),
        (
            "sum(joint_velocity * tilt)",
            "column 5: * should have signals of one size, received 4, 2",
        ),
        ("max(scan, 1)", "column 1: max should have several single numbers or one signal"),
        ("abs(height, 1)", "column 1: abs should have 1 argument, received 2"),
        ("clip(height)", "column 1: clip should have 3 arguments, received 1"),
        ("hypot(height)", "column 1: hypot should have 2 to 3 arguments, received 1"),
        ("min()", "column 1: min should have 1 to 16 arguments, received 0"),
        ("abs(**scan)", "column 1: ** before an argument is not in the language"),
        ("abs(*scan)", "column 5: * before an argument is not in the language"),
        (
            "height if height else 1",
            "column 1: 'if' is not in the language; multiply by a comparison, which is 0 or 1",
        ),
        ("lambda: height", "column 1: 'lambda' is not in the language"),
        (
            "height, heading",
            "column 1: a comma outside a function's brackets is not in the language",
        ),
        ("[height]", "column 1: a list is not in the language"),
        ("any(x > 1 for x in scan)", f"column 4: {FOR}"),
        ("sum([x for x in scan])", f"column 5: {FOR}"),
        ("(yield)", "column 2: 'yield' is not in the language"),
        ("await height", "column 1: 'await height' is not in the language"),
        ("(height := 1)", "column 10: '=' is not in the language; equality is written =="),
        ("height > 1 | height < 0", "column 12: '|' is not in the language; write 'or'"),
        ("!(height > 1)", "column 1: '!' is not in the language; write 'not'"),
        ("height ^ 2", "column 8: '^' is not in the language; a power is written **"),
        ("height % 2", "column 8: '%' is not in the language"),
        ("f'{height}'", "column 2: ''' is not in the language"),
        ("{height}", "column 1: '{' is not in the language"),
        ("height > 1 # comment", "column 12: '#' is not in the language"),
        ("height; height", "column 7: ';' is not in the language"),
        ("height\\\n> 1", "column 7: '\\' is not in the language"),
        ("height\0> 1", "column 7: '\\x00' is not in the language"),
        ("höhe > 1", "column 2: 'ö' is not in the language"),
        ("\uff48eight > 1", "column 1: '\uff48' is not in the language"),
        ("height > ½", "column 10: '½' is not in the language"),
        ("height > ٣", f"column 10: {NUMBER} '٣'"),
        ("height > \ud800", "column 10: '\\ud800' is not in the language"),
        (
            "height.__class__",
            "column 1: a component of height should be one of min, max, received '__class__'",
        ),
        ("__import__(height)", f"column 1: {FUNCTION} '__import__'"),
        ("(abs)(height)(height)", f"column 1: {FUNCTION} '(abs)(height)'"),
    ],
)
def test_what_is_not_in_the_language_is_refused(text, sentence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = refusal(text)
    assert said == f"expression, {sentence}"
    assert said.isprintable()


def test_a_name_that_is_like_none_lists_all():
    assert refusal("zzz > 1", {name: SIGNALS[name] for name in ("height", "tilt")}) == (
        "expression, column 1: a name should be one of the signals height, tilt, received 'zzz'"
    )
    assert refusal("height > 1", {}) == (
        "expression, column 1: a name should be one of the signals none, received 'height'"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("height + " * 300 + "1", "at most 2000 characters, received 2701"),
        ("1+" * 151 + "height", "at most 300 names, numbers and operators, received 303"),
        ("(" * 65 + "height" + ")" * 65, "at most 64 brackets within each other, received 65"),
        ("-" * 64 + "height", "at most 64 operators and functions within each other, received 65"),
        ("-" * 299 + "height", "at most 64 operators and functions within each other, received 65"),
        ("not " * 298 + "height", "operators and functions within each other, received 65"),
        ("abs(" * 64 + "height" + ")" * 64, "operators and functions within each other"),
    ],
)
def test_an_expression_is_bounded(text, sentence):
    assert sentence in refusal(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-" * 63 + "height", -4.0),
        ("(" * 64 + "height" + ")" * 64, 4.0),
        ("height" + " " * 1994, 4.0),
        (" or ".join(["height > 1"] * 75), 1.0),
        ("abs(" * 63 + "height" + ")" * 63, 4.0),
    ],
)
def test_the_bounds_themselves_are_allowed(text, wanted):
    assert CostExpression(text, SIGNALS).step({"height": [4.0]}) == wanted


def test_the_canonical_text_is_bounded_too():
    name = "a" * 20
    text = " or ".join([f"{name}>1"] * 75)
    assert len(text) <= checker.MAX_LENGTH
    assert refusal(text, {name: SignalSpec(name, 1, "1")}) == (
        "expression, column 1: the expression should have at most 2000 characters, with all of "
        "its brackets, received 2398"
    )


# Units.


@pytest.mark.parametrize(
    ("text", "units_received"),
    [
        ("position.x > heading", "m and rad"),
        ("position.x + forward_speed", "m and m/s"),
        ("position.x * position.y - height", "m^2 and m"),
        ("min(height, 1, forward_speed)", "m and m/s"),
        ("hypot(height, forward_speed)", "m and m/s"),
        ("clip(height, 0, forward_speed)", "m and m/s"),
        ("0 < height < forward_speed", "m and m/s"),
        ("sqrt(height) > height", "m^0.5 and m"),
        ("height ** 0.5 > height", "m^0.5 and m"),
        ("-abs(sum(scan)) == yaw_rate", "m and rad/s"),
        ("scan.min < norm(linear_velocity)", "m and m/s"),
        ("wheel_torque[0] > force.x", "kg*m^2/s^2 and kg*m/s^2"),
        ("current * voltage > force.x", "kg*m^2/s^3 and kg*m/s^2"),
        ("1 + heading / heading > mass / mass * mass", "1 and kg"),
        ("area > height", "m^2 and m"),
        ("sin(heading) > height", "1 and m"),
        ("height / forward_speed > height", "s and m"),
        ("apples_taken / height > height", "1/m and m"),
    ],
)
def test_numbers_of_other_units_are_not_added_or_compared(text, units_received):
    said = refusal(text, SIGNALS | OWN)
    assert said.endswith(f"should have numbers of one unit, received {units_received}")


@pytest.mark.parametrize(
    "text",
    [
        "force.x > mass * acceleration",
        "current * voltage > force.x * forward_speed",
        "wheel_torque[0] * yaw_rate > current * voltage",
        "yaw_rate * height > forward_speed",
        "rate * height > forward_speed",
        "sqrt(area) > height and area ** 0.5 > height and height ** 2 > area",
        "height > 1 and forward_speed > 1 and 0.1 * heading > height",
        "height + 2 * (forward_speed > 1) + 1",
        "smell > height and smell * height > forward_speed",
        "sin(smell) + sin(1) + cos(yaw_rate / rate) > 1",
        "min > height and min(min, height) > 1 and min.min > 1",
        "heading / 2 > tilt.roll",
    ],
)
def test_units_that_agree_or_cannot_be_told_are_allowed(text):
    CostExpression(text, SIGNALS | OWN)


def test_a_sine_is_of_an_angle():
    assert refusal("sin(height)") == (
        "expression, column 1: sin should have an angle in rad, received m"
    )


@pytest.mark.parametrize(
    "text", ["", "metre", "m//s", "m/", "(m)", "m^", "m^2.5", "m**2", "kN", "m*smell", "m m"]
)
def test_a_unit_that_is_not_of_the_si_is_not_known(text):
    assert units.parse(text) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1", "1"), ("m/s^2", "m/s^2"), ("m*s^-2", "m/s^2"), ("1/s/s", "1/s^2"), ("m/m", "1")],
)
def test_a_unit_is_shown_in_one_way(text, shown):
    assert units.shown(units.parse(text)) == shown


# Signals.


def test_the_catalogue_has_a_spec_for_each_signal_of_known_size():
    specs = catalogue({})
    assert specs.keys() == {name for name, signal in CATALOGUE.items() if signal.size is not None}
    assert specs["tilt"] == SignalSpec("tilt", 2, "rad", ("roll", "pitch"))
    assert catalogue({"joint_velocity": 7})["joint_velocity"].size == 7
    assert COMPONENTS.keys() <= CATALOGUE.keys()
    for name, spec in specs.items():
        mixed = name == "commanded_velocity"  # two speeds and a rate
        assert (units.parse(spec.unit) is None) == mixed, name
        assert (spec.size, spec.unit) == (CATALOGUE[name].size, CATALOGUE[name].unit)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-name", 1, "m"), f"signal 'no-name': {NAMES} 'no-name'"),
        (("and", 1, "m"), f"signal 'and': {NAMES} 'and'"),
        (("höhe", 1, "m"), f"signal 'höhe': {NAMES} 'höhe'"),
        (("a", 2, "m", ("x", "1")), f"signal 'a': {NAMES} '1'"),
        (("a", 0, "m"), "signal 'a': size should be at least 1, received 0"),
        (("a", 2, "m", ("x",)), "signal 'a': components should be 2 names, received 1"),
        (("a", 2, "m", ("x", "x")), f"signal 'a': {UNIQUE} x, x"),
        (("a", 2, "m", ("x", "min")), f"signal 'a': {UNIQUE} x, min"),
    ],
)
def test_a_signal_that_no_expression_can_read_is_refused(arguments, sentence):
    with pytest.raises(ContractError) as caught:
        SignalSpec(*arguments)
    assert str(caught.value) == sentence


# The page.


def test_the_examples_of_the_page_are_in_the_language():
    table = PAGE.partition("| what | example |")[2].partition("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    examples = [text for row in rows for text in re.findall(r"`([^`]+)`", row[1])]
    examples += re.findall(r"^    ((?:abs|any|2 \*|\(\w).*)$", PAGE, flags=re.MULTILINE)
    assert len(examples) > 25
    for text in examples:
        if not re.fullmatch(r"[\d.e-]+", text):
            vector = "scan[" in text or text in ("joint_velocity",)
            assert CostExpression(f"sum({text})" if vector else text, SIGNALS).signals
    functions = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))
    assert functions == list(checker.FUNCTIONS)


def test_the_sentences_of_the_page_are_those_that_are_said():
    rows = re.findall(r"^\| `([^`]+)` \| (expression, column .*) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 11
    for text, sentence in rows:
        assert refusal(text) == sentence


def test_the_bounds_of_the_page_are_those_that_hold():
    said = [checker.MAX_LENGTH, checker.MAX_PARTS, checker.MAX_DEPTH]
    found = re.search(
        r"at most (\d+) characters, (\d+) names, numbers and operators, and (\d+)", PAGE
    )
    assert [int(number) for number in found.groups()] == said
