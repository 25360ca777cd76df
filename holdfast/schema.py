"""Reads frozen dataclasses from plain data, and writes them as plain data.

Files, settings, and the data that programs exchange are read by `read` and written by `to_plain`.
A field's annotation declares its type and range, as `Annotated[float, POSITIVE]`, and a refusal
names the field's place. This is own code and not pydantic, msgspec or cattrs, because the
contract and the safety monitor are read this way too, and may import NumPy and the standard
library alone.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from holdfast import plain
from holdfast.errors import HoldfastError
from holdfast.plain import Place, dotted, meant, shown

T = TypeVar("T")


# Rules that stand beside a field, in its annotation.


class Rule(ABC):
    """What values a field takes, beyond their type. Its text follows "should be"."""

    @abstractmethod
    def allows(self, value: Any) -> bool:
        """Return whether a value of the right type is allowed."""

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Range(Rule):
    """Finite numbers from `low` to `high`; `above` excludes `low`, `below` excludes `high`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def allows(self, value: Any) -> bool:
        """See `Rule`; NaN and infinity are in no range, nor is a text, in a person's own code."""
        if not isinstance(value, Real):
            return False
        number: Any = value
        if not abs(number) <= sys.float_info.max:  # NaN fails this comparison too
            return False
        enough = self.low < number if self.above else self.low <= number
        return bool(enough and (number < self.high if self.below else number <= self.high))

    def __str__(self) -> str:
        if self.high < math.inf:
            left, right = "(" if self.above else "[", ")" if self.below else "]"
            return f"in {left}{self.low:g}, {self.high:g}{right}"
        if self.low > -math.inf:
            return f"{'above' if self.above else 'at least'} {self.low:g}"
        return "a finite number"


FINITE = Range()
SEED = Range(0, 2**53)
"""Seeds of random numbers: every generator takes these, and every reader of JSON reads them."""
POSITIVE = Range(0.0, above=True)
NOT_NEGATIVE = Range(0.0)
SHARE = Range(0.0, 1.0)
PROPER_SHARE = Range(0.0, 1.0, above=True, below=True)


@dataclass(frozen=True)
class OneOf(Rule):
    """Any of some texts."""

    words: Collection[str]

    def allows(self, value: Any) -> bool:
        """See `Rule`."""
        return value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Matching(Rule):
    """Texts that a pattern matches as a whole; `words` describes them for a person."""

    pattern: re.Pattern[str]
    words: str

    def allows(self, value: Any) -> bool:
        """See `Rule`."""
        return self.pattern.fullmatch(value) is not None

    def __str__(self) -> str:
        return self.words


NAME = Matching(plain.NAME, "made of letters, digits, _ and - alone")
"""A name that may become part of a path."""


PATH = Matching(re.compile(r"[^\0]*"), "a path, which holds no NUL character")


class _Ascending(Rule):
    """Two numbers, the first at most the second."""

    def allows(self, value: Any) -> bool:
        """See `Rule`."""
        low, high = value
        return bool(low <= high)

    def __str__(self) -> str:
        return "[low, high], with low at most high"


ASCENDING = _Ascending()


class _Whole(Rule):
    """An integer; a dataclass that a program makes may hold anything."""

    def allows(self, value: Any) -> bool:
        """See `Rule`."""
        return isinstance(value, int) and not isinstance(value, bool)

    def __str__(self) -> str:
        return "a whole number"


WHOLE = _Whole()


def check(record: Any, error: type[HoldfastError], where: str = "") -> None:
    """Raise unless a dataclass's fields are in their declared ranges; for `__post_init__`.

    Args:
        error: raised if a field is not.
        where: begins the sentence, before the field's name.
    """
    for name, kind in _hints(type(record)).items():
        for rule, value, place in _rules(kind, getattr(record, name), (name,)):
            if not rule.allows(value):
                before = f"{where}: " if where else ""
                keys = dotted(tuple(key for key in place if isinstance(key, str)))
                raise error(f"{before}{keys} should be {rule}, received {_received(value)}")


# In.


class MismatchError(ValueError):
    """Data does not fit a dataclass.

    Attributes:
        place: the place of the mistake.
        near: the nearest place that the data has, for a line number.
        named: whether the sentence itself names the place.
    """

    def __init__(
        self, place: Place, said: str, near: Place | None = None, named: bool = False
    ) -> None:
        super().__init__(said)
        self.place, self.near, self.named = place, place if near is None else near, named

    def within(self, place: Place) -> MismatchError:
        """Return this mistake as one of data that has the mistaken part at a place."""
        near = (*place, *self.near)
        return MismatchError((*place, *self.place), str(self), near, self.named)

    def sentence(self, where: str) -> str:
        """Return the whole sentence; `where` names the data."""
        if self.named:
            return str(self)
        place = dotted(self.place)
        joint = "." if where and place and not place.startswith("[") else ""
        whole = where + joint + place
        if not whole:
            return str(self)
        return f"{whole} {self}" if str(self).startswith("should") else f"{whole}: {self}"


def read(
    kind: type[T], data: Any, where: str, error: type[HoldfastError], complete: bool = False
) -> T:
    """Build a frozen dataclass from plain data.

    A dataclass whose data has another shape than its fields builds itself, in a static method
    `from_plain(data)`, which may use `build` for parts.

    Args:
        where: names the data; each sentence begins with it.
        error: raised if the data does not fit the fields' annotations, or if the dataclass itself
            refuses its values.
        complete: whether fields with a default must be there too, as in data that a program wrote.
    """
    try:
        return build(kind, data, complete)
    except MismatchError as wrong:
        raise error(wrong.sentence(where)) from None


def build(kind: type[T], data: Any, complete: bool = False, place: Place = ()) -> T:
    """Build a frozen dataclass; see `read`.

    Args:
        place: where the data is in a whole.

    Raises:
        MismatchError: the data does not fit the fields' annotations.
    """
    made: T = _record(kind, data, place, complete)
    return made


def _record(kind: Any, data: Any, place: Place, complete: bool) -> Any:
    if hasattr(kind, "from_plain"):
        try:
            return kind.from_plain(data)
        except MismatchError as wrong:
            raise wrong.within(place) from None
        except HoldfastError as wrong:
            raise MismatchError(place, str(wrong), named=True) from None
    if not isinstance(data, Mapping):
        raise MismatchError(place, f"should be a mapping, received {_received(data)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    missing = [
        name
        for name, field in fields.items()
        if name not in data and (_is_required(field) or (complete and not _is_later(field)))
    ]
    if unknown := [name for name in data if name not in fields]:
        guess = meant(unknown[0], missing) or meant(unknown[0], fields)
        guess = guess or f"; known are {', '.join(fields)}"
        said = f"unknown {', '.join(map(shown, unknown))}{guess}"
        raise MismatchError(place, said, (*place, unknown[0]))
    if missing:
        raise MismatchError(place, f"missing {', '.join(missing)}")
    hints, values = _hints(kind), {}
    for name, value in data.items():
        made = _value(hints[name], value, (*place, name), complete)
        for rule, part, inner in _rules(hints[name], made, (*place, name)):
            if not rule.allows(part):
                raise MismatchError(inner, f"should be {rule}, received {_received(part)}")
        values[name] = made
    try:
        return kind(**values)
    except HoldfastError as wrong:
        inner = getattr(wrong, "place", ())
        raise MismatchError((*place, *inner), str(wrong), named=True) from None
    except ValueError as wrong:
        raise MismatchError(place, str(wrong)) from None


def later(default: T) -> T:
    """Return a dataclass's field that its format gained later.

    Complete data may lack it, and plain data that is written has it only where it is not the
    default. So files from before are read as ever, and their text and hash are as they were.
    """
    made: T = dataclasses.field(default=default, metadata={_LATER: True})
    return made


_LATER = "later"


def _is_later(field: dataclasses.Field[Any]) -> bool:
    return _LATER in field.metadata


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


_SCALARS = {int: "a whole number", str: "text", bool: "true or false"}


def _value(kind: Any, value: Any, place: Place, complete: bool) -> Any:
    """Return plain data as an annotation's type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value(arguments[0], value, place, complete)
    if kind is Any:
        return value
    if origin in (Union, UnionType):  # T | None
        return None if value is None else _value(_some(arguments), value, place, complete)
    if origin is tuple:
        return _items(arguments, value, place, complete)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise MismatchError(place, f"should be a mapping, received {_received(value)}")
        made = {k: _value(arguments[1], v, (*place, k), complete) for k, v in value.items()}
        return MappingProxyType(made)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, place, complete)
    if kind is float:
        return _number(value, place)
    if origin is Literal and not isinstance(value, str):
        raise MismatchError(place, f"should be {OneOf(arguments)}, received {_received(value)}")
    kind = str if origin is Literal else kind
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MismatchError(place, f"should be {_SCALARS[kind]}, received {_received(value)}")
    return value


def _items(kinds: tuple[Any, ...], value: Any, place: Place, complete: bool) -> tuple[Any, ...]:
    """Return a list as a tuple of one kind of items, or of one kind for each."""
    each = kinds[-1] is not Ellipsis
    if not isinstance(value, list) or (each and len(value) != len(kinds)):
        what = f"a list of {len(kinds)}" if each else "a list"
        raise MismatchError(place, f"should be {what}, received {_received(value)}")
    whole = kinds if each else kinds[:1] * len(value)
    pairs = enumerate(zip(whole, value, strict=True))
    return tuple(_value(kind, item, (*place, i), complete) for i, (kind, item) in pairs)


def _number(value: Any, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MismatchError(place, f"should be a number, received {_received(value)}")
    if not abs(value) <= sys.float_info.max:  # NaN fails this comparison too
        raise MismatchError(place, f"should be {FINITE}, received {_received(value)}")
    return float(value)


def _rules(kind: Any, value: Any, place: Place) -> Iterator[tuple[Rule, Any, Place]]:
    """Yield an annotation's rules for a value and its parts, without those of inner dataclasses."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _rules(arguments[0], value, place)
        yield from ((rule, value, place) for rule in arguments[1:] if isinstance(rule, Rule))
    elif origin in (Union, UnionType):
        if value is not None:
            yield from _rules(_some(arguments), value, place)
    elif origin is Literal:
        yield OneOf(arguments), value, place
    elif origin is tuple:
        for i, item in enumerate(value):
            inner = arguments[0] if arguments[-1] is Ellipsis else arguments[i]
            yield from _rules(inner, item, (*place, i))
    elif origin is Mapping:
        for key, item in value.items():
            yield from _rules(arguments[0], key, (*place, key))
            yield from _rules(arguments[1], item, (*place, key))
    elif kind is float:
        yield FINITE, value, place
    elif kind is int:
        yield WHOLE, value, place


# Out.


def to_plain(value: Any) -> Any:
    """Return dataclasses, mappings and sequences as data that JSON holds without loss.

    Numbers of a field that is a float are floats, and -0.0 is 0.0: equal data has one text.
    """
    return _plain(type(value), value)


def _plain(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _plain(arguments[0], value)
    if origin in (Union, UnionType):
        return None if value is None else _plain(_some(arguments), value)
    if hasattr(value, "to_plain"):
        return value.to_plain()
    if dataclasses.is_dataclass(value):
        hints = _hints(type(value))
        return {
            field.name: _plain(hints[field.name], getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (_is_later(field) and getattr(value, field.name) == field.default)
        }
    if isinstance(value, Mapping):
        return {k: _plain(arguments[1] if arguments else type(v), v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        item = arguments[0] if arguments else None
        return [_plain(type(v) if item is None else item, v) for v in value]
    return float(value) + 0.0 if kind is float else value


_HINTS: dict[Any, dict[str, Any]] = {}


def _hints(kind: Any) -> dict[str, Any]:
    """Return the annotation of each field of a dataclass."""
    if kind not in _HINTS:
        hints = get_type_hints(kind, include_extras=True)
        _HINTS[kind] = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return _HINTS[kind]


def _some(kinds: tuple[Any, ...]) -> Any:
    """Return the other type of an optional type."""
    return next(kind for kind in kinds if kind is not NoneType)


def _received(value: Any) -> str:
    return plain.written(value)
