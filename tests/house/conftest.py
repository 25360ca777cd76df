"""A copy of the house to build from, and an empty environment to install into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE = {"build", "install", "log", "dist", "runs", "mutants"}
"""Folders at the root that builds and runs leave; a room may have one of these names."""

NOT_SOURCE = shutil.ignore_patterns(
    *(".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".coverage*"),
    ".mutmut-cache",
)


def _not_source(folder: str, names: list[str]) -> set[str]:
    made = MADE.intersection(names) if Path(folder) == ROOT else set()
    return made | NOT_SOURCE(folder, names)


@pytest.fixture(scope="session")
def copied() -> Callable[[Path], Path]:
    """Return a function that copies the checkout to a new folder, and returns this folder.

    The copy is as the checkout stands, links kept, without what builds left in it.
    """

    def copied(folder: Path) -> Path:
        return Path(shutil.copytree(ROOT, folder, symlinks=True, ignore=_not_source))

    return copied


@pytest.fixture
def source(tmp_path: Path, copied: Callable[[Path], Path]) -> Path:
    """Return a copy of the checkout that a test may change."""
    return copied(tmp_path / "source")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a program outside the checkout and returns what it printed."""

    def run(*command: str | Path, cwd: Path = tmp_path) -> str:
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        ended = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=env, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


@pytest.fixture
def python(tmp_path: Path, run: Callable[..., str]) -> Path:
    """Return the interpreter of a new virtual environment.

    It sees the packages of the environment that the tests run in, but not what is installed
    there in editable mode: so it needs no network, and `holdfast` comes from what is tested.
    """
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    interpreter = home / "bin" / "python"
    own = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(own.strip(), "shared.pth").write_text("\n".join(sorted(shared)) + "\n")
    return interpreter
