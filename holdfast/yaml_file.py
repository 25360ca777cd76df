"""Reads YAML files strictly; each refusal names file, line and key.

Scalars are those of YAML 1.2 (so `yes`, `on` and `1:30` are text and `010` is ten), keys are unique
texts, and numbers are finite. Anchors, aliases, tags and second documents are refused: no file read
here needs them, and aliases can make a small file very large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from holdfast import plain, schema
from holdfast.errors import ConfigError, HoldfastError
from holdfast.plain import Place, dotted

MAX_BYTES = 2**18

T = TypeVar("T")

# YAML 1.2.2, 10.3.2: the core schema's tags of plain scalars.
_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"null|Null|NULL|~|"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?[0-9]+"), plain.whole),
    (re.compile(r"0o[0-7]+"), lambda text: plain.whole(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: plain.whole(text, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), plain.finite),
    (
        re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"),
        lambda text: plain.finite(text.replace(".", "")),
    ),
)


@dataclass
class Document:
    """The data of a YAML text, and the line of each key and each list item, by place."""

    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict)

    def known(self, place: Place) -> Place:
        """Return the part of a place that is there."""
        return next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.lines), ())

    def line(self, place: Place) -> str:
        """Return "line 3: " for a place, or for the nearest one around it; "" for the whole."""
        known = self.known(place)
        return f"line {self.lines[known]}: " if known else ""


def parse(text: str) -> Document:
    """Read a YAML text.

    Raises:
        ValueError: the text is not strict YAML; the message begins with the line.
    """
    document = Document()
    try:
        events = _events(text)
        event = next(events)
        if not isinstance(event, StreamEndEvent):
            document.data = _node(event, events, (), document.lines)
            if not isinstance(next(events), StreamEndEvent):
                raise ValueError("should be one document, received a second")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}should be YAML ({error.problem or error.context})") from None
    except yaml.reader.ReaderError as error:
        at = text[: error.position].count("\n") + 1
        raise ValueError(
            f"line {at}: should be YAML (character #x{error.character:04x} is not allowed)"
        ) from None
    return document


_MARKS = (StreamStartEvent, DocumentStartEvent, DocumentEndEvent)


def _events(text: str) -> Iterator[Event]:
    """Yield the events that hold data; refuse anchors, aliases, tags and directives."""
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    while True:
        try:
            event = next(events)
        except StopIteration:
            return
        except (ValueError, OverflowError):  # a mistake in PyYAML: "\UFFFFFFFF"
            raise ValueError("should be YAML (an escape names no character)") from None
        line = _line(event)
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError(f"line {line}: should be without anchors and aliases (& and *)")
        if (tag := getattr(event, "tag", None)) is not None:
            raise ValueError(f"line {line}: should be without tags, received {tag}")
        if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
            raise ValueError(f"line {line}: should be without directives (%)")
        if not isinstance(event, _MARKS):
            yield event


def _node(event: Event, events: Iterator[Event], place: Place, lines: dict[Place, int]) -> Any:
    line = _line(event)
    if isinstance(event, ScalarEvent):
        return _scalar(event, f"line {line}: " + (f"{dotted(place)} " if place else ""))
    if len(place) >= plain.MAX_DEPTH:
        raise ValueError(f"line {line}: should nest at most {plain.MAX_DEPTH} deep")
    if isinstance(event, MappingStartEvent):
        made: dict[str, Any] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key, line = _key(event, place), _line(event)
            inner = (*place, key)
            if key in made:
                raise ValueError(
                    f"line {line}: {dotted(inner)} is there already, in line {lines[inner]}"
                )
            lines[inner] = line
            made[key] = _node(next(events), events, inner, lines)
        return made
    items: list[Any] = []
    while not isinstance(event := next(events), SequenceEndEvent):
        inner = (*place, len(items))
        lines[inner] = _line(event)
        items.append(_node(event, events, inner, lines))
    return items


def _scalar(event: ScalarEvent, where: str) -> Any:
    text: str = event.value
    read: Callable[[str], Any] = plain.whole_characters
    if event.implicit[0]:  # written without quotes
        read = next((of for pattern, of in _SCALARS if pattern.fullmatch(text)), read)
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _key(event: Event, place: Place) -> str:
    line = _line(event)
    inside = f"{dotted(place)}: " if place else ""
    if not isinstance(event, ScalarEvent):
        raise ValueError(f"line {line}: {inside}a key should be text, received a list or mapping")
    key = _scalar(event, f"line {line}: {inside}a key ")
    if not isinstance(key, str):
        raise ValueError(
            f"line {line}: {inside}a key should be text, received {plain.shown(event.value)!r}"
        )
    return key


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def read(path: Path, error: type[HoldfastError] = ConfigError) -> Document:
    """Read a YAML file.

    Args:
        error: raised if the file cannot be read or is not strict YAML.
    """
    text = plain.read_text(path, error, MAX_BYTES)
    try:
        return parse(text)
    except ValueError as wrong:
        raise error(f"{path}: {wrong}") from None


def load(
    path: Path,
    kind: type[T],
    error: type[HoldfastError] = ConfigError,
    complete: bool = False,
) -> T:
    """Return a file's data as a dataclass; an empty file gives all defaults.

    Args:
        error: raised if the file cannot be read, is not strict YAML, or has an unknown key or a
            wrong value.
        complete: see `schema.read`.
    """
    document = read(path, error)
    return build(document.data, kind, [(path, document)], error, complete)


def build(
    data: Any,
    kind: type[T],
    documents: Sequence[tuple[Path, Document]],
    error: type[HoldfastError] = ConfigError,
    complete: bool = False,
) -> T:
    """Build a dataclass from data of several files; all defaults, if there are no data.

    Args:
        documents: the files of the data, for the sentences; the nearest first.
        error, complete: see `schema.read`.

    Raises:
        HoldfastError: an unknown or impossible value; the sentence begins with its file and line.
    """
    try:
        return schema.build(kind, {} if data is None else data, complete)
    except schema.MismatchError as wrong:
        near = wrong.near
        path, document = max(documents, key=lambda each: len(each[1].known(near)))
        raise error(f"{path}: {document.line(near)}{wrong.sentence('')}") from None
