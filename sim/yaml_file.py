"""Files of one's own in YAML: read as a type says, and what is wrong told in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from holdfast.errors import ConfigError

T = TypeVar("T")


def read(what: str, path: Path, kind: type[T]) -> T:
    """Return what a file holds; all defaults, if it holds nothing.

    Args:
        what: the file is, for the sentence.
        kind: a type that pydantic validates.

    Raises:
        ConfigError: no such file, not YAML, or an unknown or impossible value.
    """
    try:
        data = yaml.safe_load(path.read_text())
        return TypeAdapter(kind).validate_python({} if data is None else data)
    except OSError as error:
        raise ConfigError(f"{what} {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{what} {path}: should be YAML") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{what} {path}: {where}: {first['msg']}") from None
