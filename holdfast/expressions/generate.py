"""Functions of checked trees: of one robot's numbers, and of many robots' arrays.

Both are Python code, written by the same templates and compiled. Code is generated for speed: a
tree of closures takes about twice as long on one robot's numbers. It is made of the checked tree
alone: templates of this file, indices, literals that `repr` wrote, and names of declared
signals, which are identifiers. No text of a user is executed.

The results agree bit for bit, because each operation is one that IEEE 754 rounds correctly, in one
order, or is the same function of the C library called number by number (sin, cos). Where they
could differ, at NaN, infinities and the sign of zero, the cost is NaN or does not depend on it: a
*doubt* is 0 for a finite number and NaN for any other, and all doubts are added to the cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from holdfast.expressions.tree import Node


@dataclass(frozen=True)
class Dialect:
    """What differs between one robot's numbers and many robots' arrays.

    Attributes:
        lists: whether several values are a list. Otherwise they are the first axis of an array.
        signal: template of a signal's values as they are given.
        one: template of one of these.
        many: template of several of these.
        truth: template of a comparison as a number.
        names: functions that the templates call.
    """

    lists: bool
    signal: str
    one: str
    many: str
    truth: str
    names: Mapping[str, Any]


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


def _root(a: float) -> float:
    return math.sqrt(a) if a >= 0.0 else math.nan


def _sine(a: float) -> float:
    return math.sin(a) if math.isfinite(a) else math.nan


def _cosine(a: float) -> float:
    return math.cos(a) if math.isfinite(a) else math.nan


def _extreme(of: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float]:
    def extreme(values: Sequence[float]) -> float:
        # `min` of a list with NaN depends on the order; a sum with NaN is NaN.
        return of(values) if not math.isnan(sum(values)) else math.nan

    return extreme


def _total(values: Any) -> Any:
    """Add from the first to the last; `sum` and `np.sum` have orders and roundings of their own."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


NUMBERS = Dialect(
    lists=True,
    signal="values[{!r}]",
    one="{} + 0.0",  # a float also of an integer, as an array has it
    many="[*map(float, {})]",
    truth="{} + 0.0",
    names={
        **{"abs": abs, "map": map, "float": float, "any": any, "all": all, "total": _total},
        **{"over": _over, "root": _root, "sine": _sine, "cosine": _cosine},
        "lower": lambda a, b: b if b < a else a,
        "upper": lambda a, b: b if b > a else a,
        "least": _extreme(min),
        "greatest": _extreme(max),
        "where": lambda truth, doubt: doubt if truth else 0.0,
        "gather": sum,
    },
)

ARRAYS = Dialect(
    lists=False,
    # Reversed axes put the values first. Everything else is elementwise.
    signal="array(values[{!r}]).T",
    one="{}",
    many="{}",
    truth="array({})",  # NumPy adds bool and float slowly
    names={
        "array": lambda values: np.asarray(values, dtype=np.float64),
        **{"abs": np.abs, "total": _total, "over": np.divide, "root": np.sqrt},
        # NumPy's own sine rounds otherwise than the C library's.
        "sine": np.vectorize(_sine, otypes=[np.float64]),
        "cosine": np.vectorize(_cosine, otypes=[np.float64]),
        **{"lower": np.minimum, "upper": np.maximum},
        "least": lambda values: np.minimum.reduce(values, axis=0),
        "greatest": lambda values: np.maximum.reduce(values, axis=0),
        "any": lambda values: np.logical_or.reduce(values, axis=0),
        "all": lambda values: np.logical_and.reduce(values, axis=0),
        "where": lambda truth, doubt: np.where(truth, doubt, 0.0),
        "gather": lambda values: np.add.reduce(values, axis=0),
    },
)

TEMPLATES = {
    **{op: f"{{}} {op} {{}}" for op in ("+", "-", "*", "<", "<=", ">", ">=", "==", "!=")},
    "neg": "-{}",
    "/": "over({}, {})",
    "not": "{} ^ True",
    "abs": "abs({})",
    "sqrt": "root({})",
    "sin": "sine({})",
    "cos": "cosine({})",
    "clip": "lower(upper({}, {}), {})",
}
"""Elementwise operations with a fixed number of arguments."""

REDUCERS = {
    "min": "least({})",
    "max": "greatest({})",
    "sum": "total({})",
    "norm": "root(total({}))",
    "any": "any({})",
    "all": "all({})",
}
"""Functions that make one number of several."""

PAIRED = {"min": "lower({}, {})", "max": "upper({}, {})"}
"""Functions of any number of arguments, two at a time from the first to the last."""

LOGICAL = {
    "and": ("{} & {}", "where({}, {})"),
    "chain": ("{} & {}", "where({}, {})"),
    "or": ("{} | {}", "where({} ^ True, {})"),
}
"""Likewise, with the doubts of a later argument, given the result of those before it."""

SWALLOWED: Mapping[str, slice] = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "min", "max", "clip"), slice(None)),
    "/": slice(1, None),
}
"""Arguments that may be infinite or NaN where the result is finite."""


class _Value(NamedTuple):
    """Generated code: a variable or a literal, and how many values it has; None for one number."""

    code: str
    size: int | None


class _Doubt(NamedTuple):
    """A value that is 0 or NaN. A partial one counts only where its operand of and/or does."""

    value: _Value
    partial: bool


class _Writer:
    """Writes the lines of one function; equal lines once."""

    def __init__(self, signals: Sequence[str], dialect: Dialect) -> None:
        self._dialect = dialect
        self._signals = {name: f"s{i}" for i, name in enumerate(signals)}
        self._variables: dict[str, str] = {}

    def function(self, root: Node) -> str:
        """Return the source of `evaluate(values)`."""
        value, doubts = self._write(root)
        terms = [value.code, *(doubt.value.code for doubt in doubts)]
        if root.truth:
            terms[0] = self._let(self._dialect.truth.format(value.code)).code
        else:
            terms.append(self._each("{0} - {0}", [value]).code)
        lines = [
            *(f"{v} = {self._dialect.signal.format(name)}" for name, v in self._signals.items()),
            *(f"{variable} = {code}" for code, variable in self._variables.items()),
            f"return {' + '.join(dict.fromkeys(terms))}",
        ]
        return "def evaluate(values):\n    " + "\n    ".join(lines)

    def _let(self, code: str, size: int | None = None) -> _Value:
        return _Value(self._variables.setdefault(code, f"t{len(self._variables)}"), size)

    def _each(self, template: str, operands: Sequence[_Value]) -> _Value:
        """Apply a template to numbers, or to each value of those that have several."""
        size = next((v.size for v in operands if v.size is not None), None)
        if size is None or not self._dialect.lists:
            return self._let(template.format(*(v.code for v in operands)), size)
        many = {f"e{i}": v.code for i, v in enumerate(operands) if v.size is not None}
        inner = [v.code if v.size is None else f"e{i}" for i, v in enumerate(operands)]
        names, lists = ", ".join(many), ", ".join(many.values())
        lists = f"zip({lists})" if len(many) > 1 else lists
        return self._let(f"[{template.format(*inner)} for {names} in {lists}]", size)

    def _write(self, node: Node) -> tuple[_Value, list[_Doubt]]:
        """Return the variable of a node, and its doubts, which have its arguments' size or none."""
        if node.op == "number":
            return _Value(node.text, None), []
        if node.op == "signal":
            name, place = node.source
            form = self._dialect.one if node.size is None else self._dialect.many
            return self._let(form.format(self._signals[name] + place), node.size), []
        if node.op in LOGICAL:
            return self._logical(node)
        values: list[_Value] = []
        doubts: list[_Doubt] = []
        for arg in node.args:
            value, found = self._write(arg)
            values.append(value)
            doubts += found
        reduced = node.op in REDUCERS and len(values) == 1
        swallowed = SWALLOWED.get(node.op, slice(0))
        for arg, value in zip(node.args[swallowed], values[swallowed], strict=True):
            # NaN among a signal's values shows in the least and the greatest of them.
            if arg.op != "number" and not (reduced and arg.op == "signal"):
                doubts.append(_Doubt(self._each("{0} - {0}", [value]), arg.partial))
        if not reduced:
            return self._operation(node, values), doubts
        if node.op == "norm":
            values = [self._each("{0} * {0}", values)]
        result = self._let(REDUCERS[node.op].format(values[0].code))
        return result, [_Doubt(self._gathered(doubt), partial) for doubt, partial in doubts]

    def _operation(self, node: Node, values: list[_Value]) -> _Value:
        if node.op in PAIRED:
            result = values[0]
            for value in values[1:]:
                result = self._each(PAIRED[node.op], [result, value])
            return result
        if node.op == "hypot":
            squares = " + ".join(f"{{{i}}} * {{{i}}}" for i in range(len(values)))
            return self._each(f"root({squares})", values)
        if node.op == "**":
            exponent = float(node.args[1].text)
            power = "root({0})" if exponent == 0.5 else " * ".join(["{0}"] * int(exponent))
            return self._each(power, values[:1])
        template = self._dialect.truth if node.op == "as_number" else TEMPLATES[node.op]
        return self._each(template, values)

    def _logical(self, node: Node) -> tuple[_Value, list[_Doubt]]:
        """Write and/or: where the first operands decide, a later one need not be defined."""
        joined, guarded = LOGICAL[node.op]
        result, doubts = self._write(node.args[0])
        for arg in node.args[1:]:
            value, found = self._write(arg)
            for doubt in found:
                inner = self._each(guarded, [result, doubt.value]) if doubt.partial else doubt.value
                doubts.append(_Doubt(inner, doubt.partial))
            result = self._each(joined, [result, value])
        return result, doubts

    def _gathered(self, value: _Value) -> _Value:
        return value if value.size is None else self._let(f"gather({value.code})")


def function(root: Node, signals: Sequence[str], dialect: Dialect) -> Callable[[Any], Any]:
    """Return a function of a mapping of signals' values.

    Args:
        root: of one number per robot.
        signals: what it reads.
    """
    space: dict[str, Any] = {"__builtins__": {}, "zip": zip, **dialect.names}
    exec(_Writer(signals, dialect).function(root), space)
    evaluate: Callable[[Any], Any] = space["evaluate"]
    return evaluate
