"""Reads text and JSON files within bounds, and formats values and places for error sentences.

A mistake in a text is a ValueError of one sentence; the caller adds the place and raises a named
error. `holdfast.yaml_file` reads YAML; `holdfast.schema` turns plain data into dataclasses. This
module needs the standard library alone.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast import files
from holdfast.errors import FileError, HoldfastError

MAX_BYTES = 64 * 2**20
"""Largest text file, bytes. The largest that Holdfast writes is a training's progress, a few MB."""

MAX_DEPTH = 32
"""Deepest nesting of mappings and lists. Holdfast's files nest at most 8 deep."""

MAX_DIGITS = 39
"""Most digits of a whole number: 128 bits, as in the state of NumPy's generators."""

Place = tuple["str | int", ...]
"""Keys and indices that lead to a piece of data."""

NAME = re.compile(r"[A-Za-z0-9_-]+")
"""A name that may become part of a path, and cannot be a path itself."""


def read_text(path: Path, error: type[HoldfastError], most: int = MAX_BYTES) -> str:
    """Return the text of a file.

    Args:
        error: raised if the file cannot be read.
        most: largest size in bytes.
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
    """Return the data of a JSON file.

    Args:
        error: raised if the file cannot be read or is not JSON.
    """
    text = read_text(path, error)
    try:
        return from_json(text)
    except ValueError as wrong:
        raise error(f"{path}: should be JSON ({wrong})") from None


def read_json_lines(path: Path, error: type[HoldfastError]) -> list[Any]:
    """Return the mappings of a JSON Lines file, one per line.

    A last line that is cut off is left out: whoever wrote the file was killed.

    Args:
        error: raised if the file cannot be read or a line is not a JSON mapping.
    """
    found: list[Any] = []
    text = read_text(path, error)
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            found.append(from_json(line))
        except ValueError as wrong:
            if number == len(lines) and not text.endswith("\n"):
                break
            raise error(f"{path}, line {number}: should be JSON ({wrong})") from None
        if not isinstance(found[-1], dict):
            raise error(f"{path}, line {number}: should be a JSON mapping")
    return found


_UNFIT = (
    *(TypeError, ValueError, AttributeError, LookupError),
    *(ArithmeticError, RuntimeError, MemoryError),  # torch's errors for wrong shapes and sizes
)


@contextmanager
def well_formed(where: object, error: type[HoldfastError]) -> Iterator[None]:
    """Turn errors of a block that uses a file's data unchecked into one sentence about the file.

    The block must use the file's data alone, so that every error is a mistake in the file.

    Args:
        where: the file; the sentence begins with it.
        error: raised instead of the block's errors.
    """
    try:
        yield
    except KeyError as wrong:
        raise error(f"{where}: lacks '{shown(str(wrong.args[0]))}'") from None
    except _UNFIT as wrong:
        raise error(f"{where}: does not hold what it should ({shown(str(wrong))})") from None


def from_json(text: str) -> Any:
    """Return the data of a JSON text with unique keys and finite numbers.

    Raises:
        ValueError: the text is not JSON, repeats a key, has a number that is not finite, or nests
            too deeply.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_int=whole)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check(data, (), "\\ud" in text.lower())
    return data


_TOO_DEEP = f"should nest at most {MAX_DEPTH} deep"


def _check(node: Any, place: Place, halves: bool) -> None:
    """Refuse deep nesting, numbers that are not finite, and lone surrogates in texts.

    Args:
        place: the node's place.
        halves: whether texts may hold lone surrogates, which are halves of characters.
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
    """Return a text that can be written to a file unchanged.

    Raises:
        ValueError: the text holds half of a character (a lone surrogate).
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
    """Return the finite number in a text.

    Raises:
        ValueError: the text is no number, or the number is not finite.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"should be a finite number, received {shown(text)}")
    return value


def whole(text: str, base: int = 10) -> int:
    """Return the whole number in a text.

    Raises:
        ValueError: the text is too long.
    """
    if len(text) > MAX_DIGITS + 1:  # a sign
        raise ValueError(f"should have at most {MAX_DIGITS} digits, received {shown(text)}")
    return int(text, base)


def shown(value: Any) -> str:
    """Return a value as text for a sentence: printable, on one line, at most 60 characters."""
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:57]}..."


def written(value: Any) -> str:
    """Return a value of a file for a sentence: null, true and false as YAML and JSON have them."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shown(repr(value))


def counted(number: int, noun: str) -> str:
    """Return "1 episode", "2 episodes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def command_line(*words: str | Path) -> str:
    """Return a command as a shell takes it. A path that begins with a dash is no option of it."""
    told = (
        f"./{word}" if str(word)[:1] == "-" and isinstance(word, Path) else word for word in words
    )
    return shlex.join(map(str, told))


def printable(text: str) -> str:
    """Return a text without what would steer a terminal; escapes stand for it, as in Python."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def dotted(place: Place) -> str:
    """Return a place as "sources.odom.fields[0]"."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return shown(text.removeprefix("."))


def is_name(text: str) -> bool:
    """Return whether a text may become part of a path: it has letters, digits, _ and - alone."""
    return NAME.fullmatch(text) is not None


def meant(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" if a known word X is similar, else an empty text."""
    close = difflib.get_close_matches(word, {each for each in known if each != word}, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
