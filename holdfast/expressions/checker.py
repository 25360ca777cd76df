"""Checks an expression's text against the language and the declared signals."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NoReturn

from holdfast.errors import ContractError
from holdfast.expressions import units
from holdfast.expressions.generate import NUMBERS, REDUCERS, function
from holdfast.expressions.tree import EXTREMES, Node, SignalSpec
from holdfast.plain import meant, shown

MAX_LENGTH = 2000
"""Most characters of a text, and of a canonical text."""

MAX_PARTS = 300
"""Most names, numbers and operators."""

MAX_DEPTH = 64
"""Deepest nesting of brackets, and of operators and functions."""

EXPONENTS = (*(float(n) for n in range(1, 9)), 0.5)
"""Powers are products, or a square root: every computer rounds these alike."""

FUNCTIONS = {
    "abs": (1, 1),
    "min": (1, 16),
    "max": (1, 16),
    "hypot": (2, 3),
    "clip": (3, 3),
    "sqrt": (1, 1),
    "sin": (1, 1),
    "cos": (1, 1),
    "sum": (1, 1),
    "norm": (1, 1),
    "any": (1, 1),
    "all": (1, 1),
}
"""The least and the most arguments of each function."""

ONE_UNIT = ("+", "-", "min", "max", "hypot", "clip")
"""Operations whose arguments should have one unit, which is the result's."""

BINARY: Mapping[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
COMPARISONS: Mapping[type[ast.AST], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<operator>\*\*|[<>=!]=|[-+*/<>])|(?P<open>[(\[])|(?P<close>[)\]])|[,.:])",
    re.ASCII,
)
_OTHER_UNITS = ("mm", "cm", "km", "ms", "min", "h", "deg", "degree", "degrees", "rpm")
"""Units that are not SI, which people write behind a number too."""

_WITH_UNIT = re.compile(r"(?:\d+\.?\d*|\.\d+)(?P<unit>[A-Za-z]+)(?![\w.])", re.ASCII)
_INSTEAD = {
    "&": "; write 'and'",
    "|": "; write 'or'",
    "!": "; write 'not'",
    "~": "; write 'not'",
    "^": "; a power is written **",
    "=": "; equality is written ==",
}
_WHOLE = "; any, all, sum, norm, min and max take whole signals"
_REFUSED: Mapping[type[ast.AST], tuple[str, str]] = {
    ast.IfExp: ("'if'", "; multiply by a comparison, which is 0 or 1"),
    ast.Lambda: ("'lambda'", ""),
    ast.Tuple: ("a comma outside a function's brackets", ""),
    ast.List: ("a list", ""),
    ast.ListComp: ("'for'", _WHOLE),
    ast.GeneratorExp: ("'for'", _WHOLE),
    ast.Starred: ("* before an argument", ""),
}
"""What is not in the language, and what to write instead."""


def check(text: str, signals: Mapping[str, SignalSpec]) -> Node:
    """Return the checked tree of an expression of one number per robot.

    Raises:
        ContractError: what is not in the language, in which column, and what would be right.
    """
    text = re.sub(r"\s", " ", text)
    _scan(text)
    try:  # within brackets, so that spaces come first and columns count from 1
        tree = ast.parse(f"({text})", mode="eval").body
    except (SyntaxError, MemoryError, RecursionError) as error:
        column = max(getattr(error, "offset", None) or 0, 2) - 1
        column = min(column, len(text.rstrip()) + 1)
        rest = text[column - 1 :].strip()
        received = f"'{shown(rest)}'" if rest else "its end"
        _refuse(column, f"the expression should be complete and well-formed, received {received}")
    node = _Checker(text, signals).node(tree, 1)
    if node.size is not None:
        _refuse(
            1,
            f"the cost should be one number, received {node.size}; any, all, sum, norm, min and "
            "max make one of several",
        )
    if not any(node.reads()):
        _refuse(1, f"the cost should read a signal, received '{shown(text.strip())}'")
    _bound(1, "characters, with all of its brackets", MAX_LENGTH, len(node.text))
    return node


def _refuse(where: ast.AST | int, sentence: str) -> NoReturn:
    """Raise a ContractError of a place: a column from 1, or what was parsed there."""
    column = where if isinstance(where, int) else getattr(where, "col_offset", 1)
    raise ContractError(f"expression, column {max(column, 1)}: {sentence}")


def _bound(where: ast.AST | int, what: str, most: int, received: int) -> None:
    if received > most:
        _refuse(where, f"the expression should have at most {most} {what}, received {received}")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"


def _scan(text: str) -> None:
    """Refuse what is too large or is not made of the language's signs, before Python parses it."""
    _bound(1, "characters", MAX_LENGTH, len(text))
    at, end, parts = 0, len(text.rstrip()), 0
    before, number_at = None, 0
    brackets: list[int] = []
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            _refuse_sign(text, end - len(text[at:end].lstrip()))
        if before == "number" and found.lastgroup == "word" and _is_unit(found["word"]):
            _refuse_unit(text, number_at, found.end())
        before, number_at = found.lastgroup, at + len(found[0]) - len(found[0].lstrip())
        at = found.end()
        parts += found.lastgroup in ("number", "word", "operator")
        if found.lastgroup == "open":
            brackets.append(at)
            _bound(at, "brackets within each other", MAX_DEPTH, len(brackets))
        elif found.lastgroup == "close":
            if not brackets:
                _refuse(at, f"'{text[at - 1]}' should close a bracket, received none to close")
            brackets.pop()
    if not parts:
        _refuse(1, f"the expression should read a signal, received '{shown(text)}'")
    _bound(1, "names, numbers and operators", MAX_PARTS, parts)
    if brackets:
        _refuse(brackets[-1], f"'{text[brackets[-1] - 1]}' should be closed, received no bracket")


def _is_unit(word: str) -> bool:
    return word in _OTHER_UNITS or units.parse(word) is not None


def _refuse_unit(text: str, at: int, end: int) -> NoReturn:
    """Refuse a number with a unit behind it, from `at` to `end`."""
    number = re.match(r"[\d.]+", text[at:])
    alone = number[0] if number else "it"
    _refuse(
        at + 1,
        f"a number should have no unit: it is in the SI unit of what it is compared with; write "
        f"{alone} alone, received '{shown(text[at:end].strip())}'",
    )


def _refuse_sign(text: str, at: int) -> NoReturn:
    sign = text[at]
    if sign.isdigit() or sign == ".":
        with_unit = _WITH_UNIT.match(text, at)
        if with_unit and _is_unit(with_unit["unit"]):
            _refuse_unit(text, at, with_unit.end())
        number = re.match(r"[\w.]+", text[at:])
        received = shown(number[0] if number else sign)
        _refuse(at + 1, f"a number should be written like 2, 0.5 or 1e-3, received '{received}'")
    _refuse(at + 1, f"'{shown(sign)}' is not in the language{_INSTEAD.get(sign, '')}")


class _Checker:
    """Turns what Python parsed into checked nodes."""

    def __init__(self, text: str, signals: Mapping[str, SignalSpec]) -> None:
        self._text = text
        self._signals = signals
        self._kinds: Mapping[type[ast.AST], Callable[[Any, int], Node]] = {
            ast.Constant: self._number,
            ast.Name: self._name,
            ast.Attribute: self._component,
            ast.Subscript: self._indexed,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._binary,
            ast.BoolOp: self._logical,
            ast.Compare: self._compared,
            ast.Call: self._call,
        }

    def node(self, tree: ast.AST, depth: int) -> Node:
        """Return the checked node of a part at some depth."""
        _bound(tree, "operators and functions within each other", MAX_DEPTH, depth)
        kind = self._kinds.get(type(tree))
        if kind is None:
            what, instead = _REFUSED.get(type(tree), (f"'{self._source(tree)}'", ""))
            _refuse(tree, f"{what} is not in the language{instead}")
        return kind(tree, depth)

    def _source(self, tree: Any) -> str:
        return shown(self._text[tree.col_offset - 1 : tree.end_col_offset - 1])

    # Numbers and signals.

    def _number(self, tree: ast.Constant, _: int) -> Node:
        if not isinstance(tree.value, (int, float)) or isinstance(tree.value, bool):
            _refuse(tree, f"a number should be written in digits, received '{self._source(tree)}'")
        try:
            value = float(tree.value)
        except OverflowError:
            value = math.inf
        return self._constant(tree, value)

    def _constant(self, tree: ast.AST, value: float) -> Node:
        if not math.isfinite(value):
            _refuse(tree, f"a constant should be finite, received '{self._source(tree)}'")
        return Node("number", (), repr(value))

    def _spec(self, tree: ast.AST) -> SignalSpec:
        if not isinstance(tree, ast.Name):
            received = f"received '{self._source(tree)}'"
            _refuse(tree, f"only a signal's name should come before . and [, {received}")
        spec = self._signals.get(tree.id)
        if spec is None:
            received = f"received '{shown(tree.id)}'"
            if tree.id in FUNCTIONS:
                _refuse(tree, f"a function should be followed by ( and its arguments, {received}")
            guess = meant(tree.id, self._signals)
            wanted = "a signal" if guess else f"one of the signals {_listed(self._signals)}"
            _refuse(tree, f"a name should be {wanted}, {received}{guess}")
        return spec

    def _name(self, tree: ast.Name, _: int) -> Node:
        spec = self._spec(tree)
        return self._values(spec, 0, spec.size)

    def _component(self, tree: ast.Attribute, _: int) -> Node:
        spec = self._spec(tree.value)
        if tree.attr in spec.components:
            first = spec.components.index(tree.attr)
            return self._values(spec, first, first + 1)
        known = (*spec.components, *EXTREMES)
        if tree.attr not in EXTREMES:
            _refuse(
                tree,
                f"a component of {spec.name} should be one of {_listed(known)}, "
                f"received '{shown(tree.attr)}'{meant(tree.attr, known)}",
            )
        return self._reduced(tree, tree.attr, self._values(spec, 0, spec.size))

    def _indexed(self, tree: ast.Subscript, _: int) -> Node:
        spec, place = self._spec(tree.value), tree.slice
        if not isinstance(place, ast.Slice):
            index = self._index(place, 0)
            if index not in range(spec.size):
                _refuse(
                    place,
                    f"an index of {spec.name} should be from 0 to {spec.size - 1}, "
                    f"received {index}",
                )
            return self._values(spec, index, index + 1)
        first, end = self._index(place.lower, 0), self._index(place.upper, spec.size)
        if place.step is not None or not 0 <= first < end <= spec.size:
            _refuse(
                place,
                f"values of {spec.name} should be first:end with 0 <= first < end <= {spec.size}, "
                f"received {self._source(place)}",
            )
        return self._values(spec, first, end)

    def _index(self, tree: ast.AST | None, default: int) -> int:
        if tree is None:
            return default
        if not isinstance(tree, ast.Constant) or type(tree.value) is not int:
            _refuse(tree, f"an index should be a whole number, received '{self._source(tree)}'")
        return tree.value

    def _values(self, spec: SignalSpec, first: int, end: int) -> Node:
        """Return one value of a signal, or several, in the one way that the canonical text has."""
        unit = units.parse(spec.unit)
        if end == first + 1:
            place = f"[{first}]"
            text = f".{spec.components[first]}" if spec.components else place
            text = "" if spec.size == 1 else text
            return Node("signal", (), spec.name + text, None, unit, source=(spec.name, place))
        place = "" if end - first == spec.size else f"[{first}:{end}]"
        size = end - first
        return Node("signal", (), spec.name + place, size, unit, source=(spec.name, place))

    # Operators.

    def _unary(self, tree: ast.UnaryOp, depth: int) -> Node:
        arg = self.node(tree.operand, depth + 1)
        if isinstance(tree.op, ast.Not):
            return self._truth(tree, "not", (arg,), f"(not {arg.text})")
        if isinstance(tree.op, ast.UAdd):
            return _as_number(arg)
        return self._made(tree, "neg", (_as_number(arg),), f"(-{arg.text})")

    def _binary(self, tree: ast.BinOp, depth: int) -> Node:
        op = BINARY.get(type(tree.op))
        if op is None:
            name = type(tree.op).__name__
            _refuse(
                tree, f"an operator should be one of {_listed(BINARY.values())}, received {name}"
            )
        left = _as_number(self.node(tree.left, depth + 1))
        right = _as_number(self.node(tree.right, depth + 1))
        if op == "**" and (right.op != "number" or float(right.text) not in EXPONENTS):
            _refuse(
                tree.right,
                f"an exponent should be a whole number from 1 to 8, or 0.5, received {right.text}",
            )
        if op == "/" and right.op == "number" and float(right.text) == 0.0:
            _refuse(tree.right, f"a divisor should not be 0, received '{self._source(tree)}'")
        return self._made(tree, op, (left, right), f"({left.text} {op} {right.text})")

    def _logical(self, tree: ast.BoolOp, depth: int) -> Node:
        op = "and" if isinstance(tree.op, ast.And) else "or"
        args = tuple([self.node(value, depth + 1) for value in tree.values])
        return self._truth(tree, op, args, f"({f' {op} '.join(arg.text for arg in args)})")

    def _compared(self, tree: ast.Compare, depth: int) -> Node:
        trees = (tree.left, *tree.comparators)
        args = [_as_number(self.node(each, depth + 1)) for each in trees]
        pairs, chain = [], args[0].text
        for i, kind in enumerate(tree.ops):
            op, pair = COMPARISONS.get(type(kind)), (args[i], args[i + 1])
            if op is None:
                wanted = _listed(COMPARISONS.values())
                name = type(kind).__name__
                _refuse(tree, f"a comparison should be one of {wanted}, received {name}")
            if pair[0].op == pair[1].op == "number":
                received = f"received {pair[0].text} {op} {pair[1].text}"
                _refuse(trees[i], f"a comparison should read a signal, {received}")
            _common_unit(trees[i], op, pair)
            text = f"({pair[0].text} {op} {pair[1].text})"
            pairs.append(self._node_of(trees[i], op, pair, text, truth=True))
            chain += f" {op} {pair[1].text}"
        if len(pairs) == 1:
            return pairs[0]
        return self._truth(tree, "chain", tuple(pairs), f"({chain})")

    # Functions.

    def _call(self, tree: ast.Call, depth: int) -> Node:
        name = tree.func.id if isinstance(tree.func, ast.Name) else None
        if name not in FUNCTIONS:
            received = self._source(tree.func)
            guess = meant(received, FUNCTIONS)
            wanted = f"one of {_listed(FUNCTIONS)}, received '{received}'{guess}"
            _refuse(tree, f"a function should be {wanted}")
        if tree.keywords:
            _refuse(tree, "** before an argument is not in the language")
        least, most = FUNCTIONS[name]
        if not least <= len(tree.args) <= most:
            count = f"{least} to {most} arguments" if most > 1 else "1 argument"
            count = f"{least} arguments" if least == most > 1 else count
            _refuse(tree, f"{name} should have {count}, received {len(tree.args)}")
        args = tuple([self.node(arg, depth + 1) for arg in tree.args])
        if name in REDUCERS and len(args) == 1:
            return self._reduced(tree, name, args[0])
        args = tuple([_as_number(arg) for arg in args])
        if name in EXTREMES and any(arg.size is not None for arg in args):
            _refuse(tree, f"{name} should have several single numbers or one signal")
        if name in ("sin", "cos") and units.dimension(args[0].unit or {}):
            received = units.shown(args[0].unit or {})
            _refuse(tree, f"{name} should have an angle in rad, received {received}")
        return self._made(tree, name, args, f"{name}({', '.join(arg.text for arg in args)})")

    def _reduced(self, tree: ast.AST, name: str, arg: Node) -> Node:
        """Return one number made of several; one number is taken for a vector of one value."""
        text = f"{name}({arg.text})"
        if name in ("any", "all"):
            truth = self._truth(tree, name, (arg,), text)
            return replace(arg, text=text) if arg.size is None else replace(truth, size=None)
        arg = _as_number(arg)
        if arg.size is None and name == "norm":
            return self._made(tree, "abs", (arg,), text)
        if arg.size is None:
            return arg if arg.op == "number" else replace(arg, text=text)
        return Node(name, (arg,), text, None, arg.unit, partial=arg.partial)

    # What nodes are made of.

    def _truth(self, tree: ast.AST, op: str, args: tuple[Node, ...], text: str) -> Node:
        for arg in args:
            if not arg.truth:
                received = f"received the number {shown(arg.text)}"
                _refuse(tree, f"{op} should have comparisons, {received}")
        return self._node_of(tree, op, args, text, truth=True)

    def _made(self, tree: ast.AST, op: str, args: tuple[Node, ...], text: str) -> Node:
        """Return a number or numbers, of numbers."""
        unit = _common_unit(tree, op, args) if op in ONE_UNIT else _unit_of(op, args)
        node = self._node_of(tree, op, args, text, unit)
        if all(arg.op == "number" for arg in args):
            return self._constant(tree, function(node, (), NUMBERS)({}))
        return node

    def _node_of(
        self,
        tree: ast.AST,
        op: str,
        args: tuple[Node, ...],
        text: str,
        unit: units.Unit | None = None,
        truth: bool = False,
    ) -> Node:
        sizes = list(dict.fromkeys(arg.size for arg in args if arg.size is not None))
        if len(sizes) > 1:
            _refuse(
                tree, f"{op} should have signals of one size, received {_listed(map(str, sizes))}"
            )
        partial = any(arg.partial for arg in args)
        if op == "sqrt" or (op == "/" and args[1].op != "number"):
            partial = True
        if op == "**" and args[1].text == "0.5":
            partial = True
        return Node(op, args, text, sizes[0] if sizes else None, unit, truth, partial)


def _as_number(node: Node) -> Node:
    """Return a comparison as the number 0 or 1."""
    if not node.truth:
        return node
    return replace(node, op="as_number", args=(node,), truth=False)


def _common_unit(tree: ast.AST, op: str, args: Sequence[Node]) -> units.Unit | None:
    """Return the unit of numbers that are added or compared; a plain number has any."""
    known = [arg.unit for arg in args if arg.unit is not None]
    for unit in known[1:]:
        if units.dimension(unit) != units.dimension(known[0]):
            received = f"received {units.shown(known[0])} and {units.shown(unit)}"
            _refuse(tree, f"{op} should have numbers of one unit, {received}")
    return known[0] if known else None


def _unit_of(op: str, args: Sequence[Node]) -> units.Unit | None:
    """Return the unit of an operation that makes one of others; None where it cannot be told."""
    if op in ("sin", "cos"):
        return {}
    unit = args[0].unit
    if op in ("*", "/"):
        factor, power = args[1].unit, Fraction(1 if op == "*" else -1)
        return None if unit is None or factor is None else units.times(unit, factor, power)
    if unit is None or op in ("abs", "neg"):
        return unit
    power = Fraction(1, 2) if op == "sqrt" else Fraction(args[1].text)
    return units.times({}, unit, power)
