"""Files read whole and within bounds, and files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import FileError


def read(path: Path, most: int) -> bytes:
    """Return a file's bytes.

    Args:
        most: bytes that it may have.

    Raises:
        FileError: there is no such file, it is something else than a file, or it is larger.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError(f"{path}: cannot be read (it should be a file)")
            data = b""
            if (size := os.fstat(file.fileno()).st_size) <= most:
                data = file.read(most + 1)  # it may grow meanwhile
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({_told(error)})") from None
    except ValueError as error:  # a NUL in the path
        raise FileError(f"{str(path)!r}: cannot be read ({error})") from None
    if max(size, len(data)) > most:
        raise FileError(f"{path}: should have at most {most} bytes, it has {size}")
    return data


def write(path: Path, data: bytes | str) -> None:
    """Write a file whole, on the disk when this returns; its folder is made if there is none.

    What was there before stays until then, also when this process is killed.

    Raises:
        FileError: it cannot be written; what was there is still there, and nothing else.
    """
    with replacing(path, data):
        pass


@contextlib.contextmanager
def replacing(path: Path, data: bytes | str) -> Iterator[None]:
    """Write a file beside `path`, and put it there when the block ends without an exception.

    So two files that belong together replace two others only when both could be written.

    Raises:
        FileError: see `write`.
    """
    part = path.with_name(path.name + ".part")
    try:
        with _told_of(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise FileError(f"{path}: cannot be written (it is a folder)")
            with part.open("wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
        yield
        with _told_of(path):
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({_told(error)})") from None
    except ValueError as error:  # a NUL in the path
        raise FileError(f"{str(path)!r}: cannot be written ({error})") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, as the open of a pipe would."""
    return os.open(path, flags | os.O_NONBLOCK)


def _told(error: OSError) -> str:
    return error.strerror or str(error)
