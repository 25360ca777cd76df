"""Rules for command-line options that tyro by itself would read differently."""

from __future__ import annotations

from typing import Any, get_args

from tyro.conf import Positional
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

RULES = ConstructorRegistry()


@RULES.primitive_rule
def list_with_something_in_it(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Refuse a list option without a value: it is a mistake, not an empty list."""
    if info.type_origin is not tuple or Ellipsis not in get_args(info.type):
        return None
    if Positional in info.markers:  # without any argument the command itself asks for one
        return None
    of = PrimitiveTypeInfo.make(get_args(info.type)[0], set(info.markers))
    one = ConstructorRegistry.get_primitive_spec(of)
    assert isinstance(one, PrimitiveConstructorSpec)
    assert one.nargs == 1

    def read(words: list[str]) -> tuple[Any, ...]:
        if not words:
            raise ValueError("it should have one value at least")
        return tuple(one.instance_from_str([word]) for word in words)

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{one.metavar} [{one.metavar} ...]",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and all(map(one.is_instance, value)),
        str_from_instance=lambda values: [one.str_from_instance(value)[0] for value in values],
        choices=one.choices,
    )
