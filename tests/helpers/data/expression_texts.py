"""Texts of cost expressions, made by a chain of choices: of hypothesis, or of a fuzzer's bytes."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.expressions import SignalSpec

Choose = Callable[[int], int]
"""Returns a whole number from 0 to below its argument."""

SPECS = {
    spec.name: spec
    for spec in (  # of units that are not known, so that all may be added
        SignalSpec("speed", 1, "?"),
        SignalSpec("place", 2, "?", ("x", "y")),
        SignalSpec("joint", 3, "?"),
        SignalSpec("scan", 5, "?"),
    )
}
VECTORS = {2: ("place", "joint[1:3]", "scan[:2]"), 3: ("joint", "scan[1:4]"), 5: ("scan",)}
SINGLE = ("speed", "place.x", "place.y", "joint[0]", "joint[2]", "scan.min", "scan.max", "place[0]")
LITERALS = ("0.5", "2", "1e-3", "3", "0.1", "100")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


class Texts:
    """Makes texts.

    Args:
        choose: decides everything.
        literals: numbers that are in the texts.
        joined_vectors: whether and/or join comparisons of whole signals, as they do not in Python.
    """

    def __init__(
        self,
        choose: Choose,
        literals: tuple[str, ...] = LITERALS,
        joined_vectors: bool = True,
    ) -> None:
        self._choose = choose
        self._literals = literals
        self._joined_vectors = joined_vectors

    def one_of(self, words: tuple[str, ...]) -> str:
        return words[self._choose(len(words))]

    def cost(self) -> str:
        return (self.truth if self._choose(2) else self.number)(3)

    def number(self, depth: int) -> str:
        if depth == 0:
            return self.one_of(SINGLE if self._choose(4) else self._literals)
        depth -= 1
        kind = self._choose(14)
        if kind < 5:
            return f"({self.number(depth)} {'+-*/'[kind % 4]} {self.number(depth)})"
        if kind == 5:
            return f"{self.number(depth)} ** {self.one_of(('2', '0.5', '3', '8', '1'))}".join("()")
        if kind == 6:
            return f"{self.one_of(('min', 'max', 'hypot'))}({self.number(depth)}, {self.number(0)})"
        if kind == 7:
            return f"clip({self.number(depth)}, {self.number(0)}, {self.number(0)})"
        if kind < 11:
            name = self.one_of(("abs", "sqrt", "sin", "cos", "-", "+"))
            return f"{name}({self.number(depth)})"
        if kind == 11:
            return f"({self.truth(depth)})"
        name = self.one_of(("min", "max", "sum", "norm"))
        return f"{name}({self.vector(depth, self.size())})"

    def truth(self, depth: int) -> str:
        kind = self._choose(6) if depth else 0
        depth = max(depth - 1, 0)
        if kind < 2:
            parts = [self.number(depth) for _ in range(2 + kind)]
            return "({})".format(f" {self.one_of(COMPARISONS)} ".join(parts))
        if kind == 2:
            return f"(not {self.truth(depth)})"
        if kind == 3:
            return f"{self.one_of(('any', 'all'))}({self.truths(depth, self.size())})"
        return f"({self.truth(depth)} {self.one_of(('and', 'or'))} {self.truth(depth)})"

    def size(self) -> int:
        return (2, 3, 5)[self._choose(3)]

    def vector(self, depth: int, size: int) -> str:
        """Return several numbers."""
        kind = self._choose(5) if depth else 0
        depth -= 1
        if kind < 2:
            return self.one_of(VECTORS[size])
        if kind == 2:
            name = self.one_of(("abs", "sqrt", "sin", "-"))
            return f"{name}({self.vector(depth, size)})"
        other = self.vector(depth, size) if self._choose(2) else self.number(depth)
        both = [self.vector(depth, size), other]
        both = both[::-1] if self._choose(2) else both
        if kind == 3:
            return f"({both[0]} {self.one_of(('+', '-', '*', '/'))} {both[1]})"
        return f"hypot({both[0]}, {both[1]})"

    def truths(self, depth: int, size: int) -> str:
        """Return several comparisons."""
        if depth and self._joined_vectors and self._choose(2):
            other = self.truths if self._choose(2) else lambda d, _: self.truth(d)
            both = [self.truths(depth - 1, size), other(depth - 1, size)]
            both = both[::-1] if self._choose(2) else both
            return f"({both[0]} {self.one_of(('and', 'or'))} {both[1]})"
        return f"({self.vector(depth, size)} {self.one_of(COMPARISONS)} {self.number(0)})"
