"""Dimensions of SI units, as far as a sum or a comparison of two signals needs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

Unit = Mapping[str, Fraction]
"""Powers of SI base units and of rad, by symbol; without those whose power is 0."""

BASE = ("m", "kg", "s", "A", "K", "mol", "cd", "rad")
DERIVED = {
    "Hz": "1/s",
    "N": "kg*m/s^2",
    "Pa": "N/m^2",
    "J": "N*m",
    "W": "J/s",
    "C": "A*s",
    "V": "W/A",
}
_FACTOR = r"([A-Za-z]+|1)(?:\^?(-?[1-9]))?"


def parse(text: str) -> Unit | None:
    """Return the dimension of a unit such as "m/s^2"; None if it is not made of SI units."""
    if not re.fullmatch(rf"{_FACTOR}(?:[*/]{_FACTOR})*", text):
        return None
    unit: Unit = {}
    for sign, symbol, power in re.findall(rf"([*/]?){_FACTOR}", text):
        factor = _symbol(symbol)
        if factor is None:
            return None
        unit = times(unit, factor, Fraction(int(power or 1) * (-1 if sign == "/" else 1)))
    return unit


def _symbol(symbol: str) -> Unit | None:
    if symbol == "1":
        return {}
    if symbol in BASE:
        return {symbol: Fraction(1)}
    return parse(DERIVED[symbol]) if symbol in DERIVED else None


def times(unit: Unit, factor: Unit, power: Fraction) -> Unit:
    """Return unit * factor ** power."""
    zero = Fraction(0)
    symbols = {**unit, **factor}
    powers = {s: unit.get(s, zero) + power * factor.get(s, zero) for s in symbols}
    return {symbol: power for symbol, power in powers.items() if power}


def dimension(unit: Unit) -> Unit:
    """Return a unit without rad, which is a length over a length in the SI: m/s is rad/s * m."""
    return {symbol: power for symbol, power in unit.items() if symbol != "rad"}


def shown(unit: Unit) -> str:
    """Return a unit as a sentence shows it, such as "m/s^2"."""
    above = [_power(symbol, power) for symbol, power in unit.items() if power > 0]
    below = [_power(symbol, -power) for symbol, power in unit.items() if power < 0]
    return "/".join(["*".join(above) or "1", *below])


def _power(symbol: str, power: Fraction) -> str:
    return symbol if power == 1 else f"{symbol}^{float(power):g}"
