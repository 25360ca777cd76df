"""Files are written whole or not at all, on real file systems that are full or read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import files
from holdfast.errors import FileError

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


@pytest.fixture
def small(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "made" / "here" / "file.json"
    files.write(path, "one")
    files.write(path, b"two")
    assert path.read_bytes() == b"two" == files.read(path, 3)
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("what", ["folder", "pipe", "link to a pipe"])
def test_only_a_file_is_replaced(tmp_path, what):
    """Renaming would put a file in a device's place: /dev/null's, too."""
    path = pipe = tmp_path / "pipe"
    if what == "folder":
        path.mkdir()
    else:
        os.mkfifo(pipe)
    if what == "link to a pipe":
        path = tmp_path / "link"
        path.symlink_to(pipe)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileError, match=r"cannot be written \(it is (a folder|no regular file)\)"):
        files.write(path, b"new")
    assert sorted(tmp_path.iterdir()) == before
    assert what == "folder" or pipe.is_fifo()


@ROOT
def test_a_full_disk_leaves_what_was_there(small):
    path = small / "file"
    files.write(path, b"old")
    with pytest.raises(FileError, match=r"file: cannot be written \(No space left on device\)"):
        files.write(path, bytes(100_000))
    assert [*small.iterdir()] == [path]
    assert path.read_bytes() == b"old"


@ROOT
def test_of_two_files_both_are_replaced_or_neither(small):
    paths = small / "a", small / "b"
    for path in paths:
        files.write(path, b"old")
    with (
        pytest.raises(FileError, match="b: cannot be written"),
        files.replacing(paths[0], b"new"),
        files.replacing(paths[1], bytes(100_000)),
    ):
        pass
    assert sorted(small.iterdir()) == [*paths]
    assert {path.read_bytes() for path in paths} == {b"old"}


@ROOT
def test_a_file_system_that_is_read_only(small):
    files.write(small / "file", b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    for path in (small / "file", small / "new", small / "folder" / "new"):
        with pytest.raises(FileError, match=r"cannot be written \(Read-only file system\)"):
            files.write(path, b"new")
    assert (small / "file").read_bytes() == b"old"


def test_a_process_that_may_write_no_more(tmp_path):
    """A quota, by RLIMIT_FSIZE: the signal that comes with it kills nothing."""
    code = (
        "import resource, sys; from pathlib import Path; from holdfast import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.write(Path(sys.argv[1]), bytes(2000))\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    path = tmp_path / "file"
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"FileError {path}: cannot be written (File too large)\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("folder", r"folder: cannot be written \(it is a folder\)"),
        ("file/below", r"below: cannot be written \((Not a directory|File exists)\)"),
        ("n" * 300, r"cannot be written \(File name too long\)"),
        ("no\0ne", r"cannot be written \(embedded null byte\)"),
    ],
)
def test_a_place_where_no_file_can_be(tmp_path, place, sentence):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=sentence):
        files.write(tmp_path / place, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_interruption_while_both_are_written_leaves_neither(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "file", b"new"):
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]


def test_reading_is_bounded(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    assert files.read(path, 10) == bytes(10)
    with pytest.raises(FileError, match="should have at most 9 bytes, it has 10"):
        files.read(path, 9)
    for place in (tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(FileError, match="cannot be read"):
            files.read(place, 10)
