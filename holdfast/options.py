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
    size = one.nargs
    assert isinstance(size, int)

    def read(words: list[str]) -> tuple[Any, ...]:
        if not words or len(words) % size:
            wanted = "one value" if size == 1 else f"{size} values for each item, one item"
            raise ValueError(f"it should have {wanted} at least")
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
