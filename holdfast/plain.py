"""Plain data from files: text, JSON and names, bounded, so that no file can do harm.

Whatever is wrong is a ValueError of one sentence, which the caller puts a place and a named
error to. YAML is read by `holdfast.yaml_file`. Needs the standard library alone.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast import files
from holdfast.errors import FileError, HoldfastError

MAX_BYTES = 64 * 2**20
"""Largest text file; the largest of ours is a long training's progress, a few MB."""

MAX_DEPTH = 32
"""Deepest nesting of mappings and lists; ours are at most 8 deep."""

MAX_DIGITS = 39
"""Longest whole number: 128 bits, as NumPy's generators keep them. Every float can hold these."""

Place = tuple["str | int", ...]
"""Keys and indices that lead to a piece of data."""

NAME = re.compile(r"[A-Za-z0-9_-]+")
"""A plain name: one that may become part of a path, and is never a path itself."""


def read_text(path: Path, error: type[HoldfastError], most: int = MAX_BYTES) -> str:
    """Return the text of a file.

    Args:
        error: what is raised where it cannot be.
        most: bytes that it may have.
    """
    try:
        return files.read(path, most).decode()
    except FileError as wrong:
        raise error(str(wrong)) from None
    except UnicodeDecodeError as wrong:
        byte = wrong.object[wrong.start]
        raise error(
            f"{path}: should be UTF-8 text, received byte 0x{byte:02x} at offset {wrong.start}"
        ) from None


def read_json(path: Path, error: type[HoldfastError]) -> Any:
    """Return what a JSON file holds.

    Args:
        error: what is raised where it cannot be read or is not JSON.
    """
    text = read_text(path, error)
    try:
        return from_json(text)
    except ValueError as wrong:
        raise error(f"{path}: should be JSON ({wrong})") from None


def read_json_lines(path: Path, error: type[HoldfastError]) -> list[Any]:
    """Return what each line of a JSON Lines file holds.

    Args:
        error: what is raised where it cannot be read or a line is not a JSON mapping.
    """
    found = []
    for number, line in enumerate(read_text(path, error).splitlines(), 1):
        try:
            found.append(from_json(line))
        except ValueError as wrong:
            raise error(f"{path}, line {number}: should be JSON ({wrong})") from None
        if not isinstance(found[-1], dict):
            raise error(f"{path}, line {number}: should be a JSON mapping")
    return found


_UNFIT = (
    *(TypeError, ValueError, AttributeError, LookupError),
    *(ArithmeticError, RuntimeError, MemoryError),  # torch's answers to shapes and sizes
)


@contextmanager
def well_formed(where: object, error: type[HoldfastError]) -> Iterator[None]:
    """Say of data whose parts are taken from it unchecked that one is missing, or something else.

    Only for a file's own data: what goes wrong in the block is then the file's doing.

    Args:
        where: names the file; the sentence begins with it.
        error: what is raised.
    """
    try:
        yield
    except KeyError as wrong:
        raise error(f"{where}: lacks '{shown(str(wrong.args[0]))}'") from None
    except _UNFIT as wrong:
        raise error(f"{where}: does not hold what it should ({shown(str(wrong))})") from None


def from_json(text: str) -> Any:
    """Return what a JSON text holds, if its keys are unique and its numbers finite.

    Raises:
        ValueError: it is not such a text, or nests too deeply.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_int=whole)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check(data, (), "\\ud" in text.lower())
    return data


_TOO_DEEP = f"should nest at most {MAX_DEPTH} deep"


def _check(node: Any, place: Place, halves: bool) -> None:
    """Refuse what nests too deeply, a number that is not finite, and half a character.

    Args:
        place: of the node.
        halves: whether texts may hold half a character.
    """
    where = f"{dotted(place)} " if place else ""
    if isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"{where}should be a finite number, received {node}")
    if isinstance(node, str) and halves:
        whole_characters(node)
    if isinstance(node, (dict, list)):
        if len(place) >= MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            _check(item, (*place, key), halves)


def whole_characters(text: str) -> str:
    """Return a text, if it can be written to a file.

    Raises:
        ValueError: half a character was escaped in it (a surrogate).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"should hold whole characters, received {shown(text)}") from None
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is there twice")
    return made


def finite(text: str) -> float:
    """Return the finite number that a text says.

    Raises:
        ValueError: it says another.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"should be a finite number, received {shown(text)}")
    return value


def whole(text: str, base: int = 10) -> int:
    """Return the whole number that a text says.

    Raises:
        ValueError: it is too long.
    """
    if len(text) > MAX_DIGITS + 1:  # a sign
        raise ValueError(f"should have at most {MAX_DIGITS} digits, received {shown(text)}")
    return int(text, base)


def shown(value: Any) -> str:
    """Return a value as a sentence can show it: on one line, and not for ever."""
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted(place: Place) -> str:
    """Return a place as "sources.odom.fields[0]"."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return shown(text.removeprefix("."))


def is_name(text: str) -> bool:
    """Return whether a text may become part of a path: letters, digits, _ and - alone."""
    return NAME.fullmatch(text) is not None


def meant(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" where a known word is close, else nothing."""
    close = difflib.get_close_matches(word, {each for each in known if each != word}, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
