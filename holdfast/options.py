"""Rules for command-line options that tyro by itself would read differently."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

from tyro.conf import Positional
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def rules(command: Callable[..., Any] | None = None) -> ConstructorRegistry:
    """Return the rules for a command's options.

    Args:
        command: the function; without it, a sentence about a list names no other argument.
    """
    registry = ConstructorRegistry()
    registry.primitive_rule(lambda info: _list_with_something_in_it(info, command))
    return registry


def _required(of: Callable[..., Any]) -> Iterator[str]:
    """Yield the arguments of a command that need a value and have no option: CHILD of `gate`."""
    hints = get_type_hints(of, include_extras=True)
    for name, parameter in inspect.signature(of).parameters.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _required(hint)
            continue
        needed = parameter.default is parameter.empty
        if needed and Positional in getattr(hint, "__metadata__", ()):
            yield name.upper()


def _list_with_something_in_it(
    info: PrimitiveTypeInfo, command: Callable[..., Any] | None
) -> PrimitiveConstructorSpec[Any] | None:
    """Refuse a list option without a value: it is a mistake, not an empty list.

    A list gives its last word to an argument without an option that was not given, and may so be
    left without a value.
    """
    if info.type_origin is not tuple or Ellipsis not in get_args(info.type):
        return None
    if Positional in info.markers:  # without any argument the command itself asks for one
        return None
    of = PrimitiveTypeInfo.make(get_args(info.type)[0], set(info.markers))
    one = ConstructorRegistry.get_primitive_spec(of)
    assert isinstance(one, PrimitiveConstructorSpec)
    size = one.nargs
    assert isinstance(size, int)

    def read(words: list[str]) -> tuple[Any, ...]:
        if not words or len(words) % size:
            wanted = "one value" if size == 1 else f"{size} values for each item, one item"
            required = () if command is None else _required(command)
            other = "".join(f", and {name} a value of its own" for name in required)
            raise ValueError(f"it should have {wanted} at least{other}")
        parts = (words[i : i + size] for i in range(0, len(words), size))
        return tuple(one.instance_from_str(part) for part in parts)

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{one.metavar} [{one.metavar} ...]",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and all(map(one.is_instance, value)),
        str_from_instance=lambda values: [
            word for value in values for word in one.str_from_instance(value)
        ],
        choices=one.choices,
    )
