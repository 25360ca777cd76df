"""The checked tree of an expression, and the signals that it may read."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast.errors import ContractError
from holdfast.expressions.units import Unit
from holdfast.plain import shown
from holdfast.signals import CATALOGUE

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "position": ("x", "y"),
    "linear_velocity": ("x", "y"),
    "tilt": ("roll", "pitch"),
    "orientation": ("w", "x", "y", "z"),
    "angular_velocity": ("x", "y", "z"),
    "goal": ("x", "y"),
}
"""Names of the values of the catalogue's signals."""

EXTREMES = ("min", "max")
"""What may stand after any signal's dot."""


@dataclass(frozen=True)
class SignalSpec:
    """A signal that an expression may read.

    Attributes:
        size: how many values it has.
        unit: SI, such as "m/s" or "kg*m^2"; a unit that is not known agrees with every other.
        components: names of the values, in order; empty where they have none.

    Raises:
        ContractError: a name that no expression can hold, or another number of components.
    """

    name: str
    size: int
    unit: str
    components: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.components):
            if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
                raise ContractError(
                    f"signal '{shown(self.name)}': names should be made of letters, digits and _ "
                    f"and be no word of Python, received '{shown(name)}'"
                )
        where = f"signal '{shown(self.name)}'"
        if self.size < 1:
            raise ContractError(f"{where}: size should be at least 1, received {self.size}")
        if self.components and len(self.components) != self.size:
            raise ContractError(
                f"{where}: components should be {self.size} names, received {len(self.components)}"
            )
        names = (*self.components, *EXTREMES)
        if len(set(names)) != len(names):
            raise ContractError(
                f"{where}: components should be unique and none of {', '.join(EXTREMES)}, "
                f"received {shown(', '.join(self.components))}"
            )


def catalogue(sizes: Mapping[str, int]) -> dict[str, SignalSpec]:
    """Return the standard signals.

    Args:
        sizes: how many values the robot's own signals have, such as joint_velocity. A signal
            whose size is not known is left out.
    """
    specs = {}
    for name, signal in CATALOGUE.items():
        size = sizes.get(name) if signal.size is None else signal.size
        if size is not None:
            specs[name] = SignalSpec(name, size, signal.unit, COMPONENTS.get(name, ()))
    return specs


@dataclass(frozen=True)
class Node:
    """A checked part of an expression.

    Attributes:
        op: "number", "signal", "as_number" (of a comparison), "chain" (of comparisons), or an
            operator or function by its name in the language.
        text: canonical; of a number, its Python literal.
        size: how many values it has; None for one number.
        unit: None where it cannot be told.
        truth: whether it is a comparison, or made of such.
        partial: whether it may be undefined for finite inputs: it holds a division or a root.
        source: the name of a signal, and which of its values as an index in Python's notation.
    """

    op: str
    args: tuple[Node, ...]
    text: str
    size: int | None = None
    unit: Unit | None = None
    truth: bool = False
    partial: bool = False
    source: tuple[str, str] = ("", "")

    def reads(self) -> Iterator[str]:
        """Yield the signals that it reads, in its order; a signal may come twice."""
        if self.op == "signal":
            yield self.source[0]
        for arg in self.args:
            yield from arg.reads()
