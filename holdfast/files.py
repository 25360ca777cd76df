"""Reads whole files of bounded size, and writes files completely or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from holdfast.errors import FileError


def read(path: Path, most: int) -> bytes:
    """Return a file's bytes.

    Args:
        most: largest size in bytes.

    Raises:
        FileError: there is no such file, it is not a regular file, or it is larger.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError(f"{path}: cannot be read (it should be a file)")
            data = b""
            if (size := os.fstat(file.fileno()).st_size) <= most:
                data = file.read(most + 1)  # the file may grow while it is read
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({_told(error)})") from None
    except ValueError as error:  # a NUL in the path
        raise FileError(f"{str(path)!r}: cannot be read ({error})") from None
    if max(size, len(data)) > most:
        raise FileError(f"{path}: should have at most {most} bytes, it has {size}")
    return data


def write(path: Path, data: bytes | str) -> None:
    """Write a file completely; it is on the disk when this returns. A missing folder is made.

    An earlier file of this name stays until then, also if this process is killed.

    Raises:
        FileError: the file cannot be written. An earlier file is unchanged.
    """
    with replacing(path, data):
        pass


def require_output(path: Path, suffixes: Sequence[str], inputs: Iterable[Path] = ()) -> None:
    """Check that an output can be written, and replaces no input and no file of another kind.

    So a command that works for minutes refuses its output before.

    Args:
        suffixes: those of the files that the command writes; a new file may have any.
        inputs: the files that the command reads.

    Raises:
        FileError: it would, or it cannot be written.
    """
    with _told_of(path):
        there = next(each for each in (path, *path.absolute().parents) if each.exists())
        if not path.is_file():
            _require_writable(path, there)
            return
    for each in inputs:
        with contextlib.suppress(OSError, ValueError):  # what is not there is told by its reader
            if path.samefile(each):
                raise FileError(f"{path}: should not be replaced, it is an input of this command")
    if path.suffix.lower() not in suffixes:
        raise FileError(
            f"{path}: exists; a file that is replaced should end in {' or '.join(suffixes)}"
        )


def _require_writable(path: Path, there: Path) -> None:
    """Raise FileError unless a new file can be written; `there` is the path's nearest one."""
    if there == path:  # renaming would replace a device
        what = "a folder" if path.is_dir() else "no regular file"
        raise FileError(f"{path}: cannot be written (it is {what})")
    if not there.is_dir():
        raise FileError(f"{path}: cannot be written ({there} is no folder)")
    try:  # a file system may refuse what a folder's permissions allow
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise FileError(f"{path}: cannot be written (in {there}: {_told(error)})") from None


@contextlib.contextmanager
def replacing(path: Path, data: bytes | str) -> Iterator[None]:
    """Write a temporary file, and rename it to `path` when the block ends without an exception.

    So two files that belong together replace two earlier files only if both could be written.

    Raises:
        FileError: see `write`.
    """
    with made(path) as part:
        with _told_of(path), part.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        yield


@contextlib.contextmanager
def made(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which the block writes and closes; then rename it.

    Raises:
        FileError: see `write`.
    """
    with _told_of(path):
        part = path.with_name(path.name + ".part")
    try:
        with _told_of(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                _require_writable(path, path)
        yield part
        with _told_of(path):
            _sync(part, os.O_RDONLY)
            os.replace(part, path)
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)  # else a power cut may undo it
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path, wait_s: float) -> Iterator[int]:
    """Hold the lock of a file, which is made if it is missing; the kernel frees it after a kill.

    Args:
        wait_s: longest time to wait for another process that holds it.

    Yields:
        The file's descriptor.

    Raises:
        FileError: the file cannot be written or is no regular file, or another process holds it.
    """
    with _told_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise FileError(f"{path}: cannot be locked (it is no regular file)")
        until = time.monotonic() + wait_s
        while not _taken(lock):
            if time.monotonic() >= until:
                after = f" after {wait_s:g} s" if wait_s else ""
                raise FileError(
                    f"{path}: is held by {_holder(lock)}{after}; try again when it ended"
                )
            time.sleep(0.02)
        yield lock
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: int) -> str:
    """Return who holds a lock, where Linux tells it."""
    inode = f":{os.fstat(lock).st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks") as lines:
        for line in lines:
            words = line.split()
            if words[1] == "FLOCK" and words[5].endswith(inode):
                return f"process {words[4]}"
    return "another process"


def _sync(path: Path, flags: int) -> None:
    """Wait until a file, or a folder's names, are on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({_told(error)})") from None
    except ValueError as error:  # a NUL in the path
        raise FileError(f"{str(path)!r}: cannot be written ({error})") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: opening a pipe would otherwise wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _told(error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "it should be a file, not a folder"
    return error.strerror or str(error)
