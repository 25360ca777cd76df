"""Amounts of a model parameter: a value, a range, or a mean with a spread, for some targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.plain import shown
from holdfast.schema import FINITE, MismatchError, Range, build
from holdfast.signals import Array

ALL, EACH, COMMAND = "all", "each", "command"
"""Targets that are no names: all parts together, each part by itself, the way of the command."""

WIDEST = 2.0
"""Spreads from the mean beyond which no amount is drawn."""


@dataclass(frozen=True)
class Amount:
    """How much of a parameter.

    Attributes:
        low, high: what may be drawn; equal for a single value.
        spread: standard deviation about the middle; 0: all of the range is equally likely.
    """

    low: float
    high: float
    spread: float = 0.0

    @property
    def middle(self) -> float:
        """The value itself, or the range's middle, or the mean."""
        return (self.low + self.high) / 2.0

    @property
    def most_whole(self) -> int:
        """The largest whole amount that may be drawn."""
        return math.ceil(self.high)

    @property
    def is_range(self) -> bool:
        """Whether this is a range, which has no most likely value."""
        return self.low < self.high and not self.spread

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Draw independent amounts. A single value takes nothing from the generator."""
        if self.low == self.high:
            return np.full(shape, self.low)
        if not self.spread:
            return rng.uniform(self.low, self.high, shape)
        normal = np.clip(rng.standard_normal(shape), -WIDEST, WIDEST)
        drawn: Array = np.clip(self.middle + self.spread * normal, self.low, self.high)
        return drawn

    def draw_whole(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Draw n independent whole amounts."""
        if self.low == self.high:
            return np.full(n, int(self.low))
        if not self.spread:
            return rng.integers(int(self.low), int(self.high), n, endpoint=True)
        found: NDArray[np.int64] = np.rint(self.draw(rng, (n,))).astype(np.int64)
        return np.clip(found, 0, self.most_whole)

    def wider(self, factor: float) -> Amount:
        """Return the amount with its spread multiplied; one without a spread as it is."""
        reach = WIDEST * self.spread * factor
        if not reach:
            return self
        return Amount(self.middle - reach, self.middle + reach, self.spread * factor)

    def to_plain(self) -> Any:
        """Return the amount as a file has it."""
        if self.spread:
            mean = float(f"{self.middle:.12g}")  # without what adding and halving left behind
            return {"mean": mean, "spread": self.spread}
        return self.low if self.low == self.high else [self.low, self.high]

    @staticmethod
    def from_plain(data: Any) -> Amount:
        """Read a number, [low, high], or {mean, spread}.

        Raises:
            MismatchError: it is something else.
        """
        if isinstance(data, Mapping):
            told = build(_Told, data)
            reach = WIDEST * told.spread
            amount = Amount(told.mean - reach, told.mean + reach, told.spread)
            if not math.isclose(amount.middle, told.mean, rel_tol=1e-6, abs_tol=1e-12):
                raise MismatchError(
                    ("spread",),
                    f"should be smaller beside a mean of {told.mean:g}, received {told.spread:g}",
                )
            return amount
        if isinstance(data, list):
            if len(data) != 2:
                raise MismatchError((), f"should be [low, high], received {shown(repr(data))}")
            low, high = (_number(item, (i,)) for i, item in enumerate(data))
            if low > high:
                raise MismatchError(
                    (), f"should be [low, high], with low at most high, received {data}"
                )
            return Amount(low, high)
        value = _number(data, ())
        return Amount(value, value)


NOTHING = Amount(0.0, 0.0)


@dataclass(frozen=True)
class _Told:
    """A mean and a spread, as a file has them."""

    mean: float
    spread: float


def _number(value: Any, place: tuple[int, ...]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MismatchError(place, f"should be a number, received {shown(repr(value))}")
    if not FINITE.allows(value):
        raise MismatchError(place, f"should be {FINITE}, received {shown(repr(value))}")
    return float(value)


@dataclass(frozen=True)
class Kind:
    """A kind of parameter.

    Attributes:
        of: what a target names: "body", "geom", "joint", "actuator", "signal" or "axis".
        allowed: range of its amounts.
        nominal: the amount that changes nothing. Amounts for one target are multiplied where this
            is 1, and added where it is 0.
        whole: whether amounts are whole numbers.
        alone: the target of an amount that is given without one; "" where one must be named.
    """

    of: str
    allowed: Range
    nominal: float
    whole: bool = False
    alone: str = ALL

    def joined(self, one: Array, other: Array) -> Array:
        """Return two amounts for one target as one."""
        return one * other if self.nominal else one + other


@dataclass(frozen=True)
class Amounts:
    """Amounts of one kind of parameter, by target.

    Attributes:
        by_target: amounts by ALL, EACH, COMMAND or a name.
    """

    by_target: Mapping[str, Amount] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.by_target)

    def items(self) -> Iterator[tuple[str, Amount]]:
        """Yield targets with their amounts: ALL, then EACH, then names in the file's order."""
        first = [name for name in (ALL, EACH) if name in self.by_target]
        rest = [name for name in self.by_target if name not in first]
        return ((name, self.by_target[name]) for name in (*first, *rest))

    def wider(self, factor: float, kind: Kind) -> Amounts:
        """Return the amounts with their spreads multiplied, as far as such amounts are possible."""
        found = {}
        for name, amount in self.by_target.items():
            found[name] = amount.wider(factor)
            try:
                _require_possible(found[name], kind, (name,), False)
            except MismatchError:
                found[name] = amount
        return Amounts(MappingProxyType(found))

    def drawn(self, rng: np.random.Generator, kind: Kind) -> Amounts:
        """Return one value for each target; of EACH, the one value that every part then has."""
        found = {}
        for name, amount in self.items():
            one = amount.draw_whole(rng, 1) if kind.whole else amount.draw(rng, (1,))
            found[name] = Amount(float(one[0]), float(one[0]))
        return Amounts(MappingProxyType(found))

    def to_plain(self) -> Any:
        """Return the amounts by target."""
        return {name: amount.to_plain() for name, amount in self.items()}

    @staticmethod
    def of(data: Any, kind: Kind) -> Amounts:
        """Read amounts of a kind.

        Raises:
            MismatchError: they are of another shape, or no such amounts are possible.
        """
        named = isinstance(data, Mapping) and not {*data} <= {"mean", "spread"}
        if not named and not kind.alone and data is not None:
            raise MismatchError(
                (), f"should be a mapping from names of {kind.of}s, received {shown(repr(data))}"
            )
        given = data if named else {} if data is None else {kind.alone: data}
        found = {}
        for name, item in given.items():
            place = (name,) if named else ()
            if kind.of == "signal" and name in (ALL, EACH):
                told = f" or {COMMAND}" if kind.alone else ""
                raise MismatchError((), f"should name signals{told}, received '{name}'")
            try:
                amount = Amount.from_plain(item)
            except MismatchError as wrong:
                raise wrong.within(place) from None
            _require_possible(amount, kind, place, isinstance(item, list))
            found[str(name)] = amount
        return Amounts(MappingProxyType(found))


def _require_possible(amount: Amount, kind: Kind, place: tuple[Any, ...], listed: bool) -> None:
    """Raise MismatchError unless a kind of parameter can have an amount."""
    if amount.spread < 0.0:
        raise MismatchError((*place, "spread"), f"should be at least 0, received {amount.spread:g}")
    edges = (amount.low, amount.high) if not amount.spread else (amount.middle, amount.middle)
    for i, edge in enumerate(edges):
        where = (*place, i) if listed else place
        if kind.whole and not amount.spread and not edge.is_integer():
            raise MismatchError(where, f"should be a whole number, received {edge:g}")
        if not kind.allowed.allows(edge):
            raise MismatchError(where, f"should be {kind.allowed}, received {edge:g}")
    if amount.spread and not kind.allowed.allows(amount.high):
        raise MismatchError(
            (*place, "spread"),
            f"should keep mean and {WIDEST:g} spreads {kind.allowed}, received {amount.spread:g}",
        )
    if kind.nominal and not kind.allowed.allows(amount.low):
        raise MismatchError(
            place,
            f"should have a mean of more than {WIDEST:g} spreads, received {amount.middle:g} "
            f"with a spread of {amount.spread:g}",
        )


def value_of(kind: Kind, amounts: Amounts, where: str) -> Amounts:
    """Return the most likely amounts alone.

    Raises:
        ConfigError: an amount is a range.
    """
    for name, amount in amounts.items():
        if amount.is_range:
            raise ConfigError(
                f"{where}: {name} should be one value, received [{amount.low:g}, {amount.high:g}]; "
                "ranges are for training, --randomise"
            )
    values = {name: amount.middle for name, amount in amounts.items()}
    if kind.whole:
        values = {name: float(math.floor(value + 0.5)) for name, value in values.items()}
    return Amounts(MappingProxyType({name: Amount(v, v) for name, v in values.items()}))
