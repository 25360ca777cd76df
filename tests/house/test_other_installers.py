"""Dockerfile and pixi.toml, which no test runs: what they name is there."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from holdfast import DISTRIBUTION
from holdfast.cli import COMMANDS, main

tomllib = pytest.importorskip("tomllib")  # Python 3.11 brings it

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PIXI = tomllib.loads((ROOT / "pixi.toml").read_text(encoding="utf-8"))
ABOUT = metadata.metadata(DISTRIBUTION)
PYTHON = SpecifierSet(ABOUT["Requires-Python"])
EXTRAS = set(ABOUT.get_all("Provides-Extra") or ())
PROGRAMS = {entry.name for entry in metadata.entry_points(group="console_scripts")}


def instructions(name: str) -> list[str]:
    """Return what each instruction of a kind says, with its continued lines."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", joined, flags=re.MULTILINE)


def test_the_image_runs_a_program_that_is_installed():
    (program,), (command,) = map(json.loads, (*instructions("ENTRYPOINT"), *instructions("CMD")))
    assert program in PROGRAMS
    assert command in COMMANDS


def test_the_options_that_the_dockerfile_shows_exist(capsys):
    shown = re.search(r"holdfast \\\n#\s+(\w+) (.*)", DOCKERFILE)
    assert shown is not None
    command, options = shown.groups()
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    named = re.findall(r"--[\w-]+", options)
    assert {"--robot", "--policy"} <= set(named)
    for option in named:
        assert re.search(rf"{option}\b", told), option


def test_the_image_is_built_from_what_is_there():
    """What a line makes, the lines after it name: the stage, the wheels, the folders, the user."""
    base, final = (line.split() for line in instructions("FROM"))
    stage = base[-1]
    versions = [re.fullmatch(r"python:(3\.\d+)(?:-slim)?", image) for image in (base[0], final[0])]
    (version,) = {match and match[1] for match in versions}  # of which the wheels are
    assert version is not None
    assert PYTHON.contains(version)
    build, install, user = instructions("RUN")
    (copied,) = instructions("COPY")
    source, folder = copied.split()
    assert (ROOT / source / "setup.py").is_file()
    (wheels,) = re.findall(r"--wheel-dir (\S+)", build)
    assert f"'{folder}[dds]'" in build
    assert f"from={stage},source={wheels},target={wheels}" in install
    assert f"--find-links {wheels} '{DISTRIBUTION}[dds]'" in install
    (workdir,), (name,) = instructions("WORKDIR"), instructions("USER")
    assert f"useradd --create-home {name}" in user
    assert f"--owner {name} {workdir}" in user
    assert f'"$PWD:{workdir}"' in DOCKERFILE


def test_the_image_is_given_what_the_wheel_is_made_of():
    """What .dockerignore leaves out is neither in the package nor read by setup.py."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert 'with_name("README.md")' in setup
    needed = ["setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "package.xml"]
    needed += [
        "config",
        "launch",
        "resource",
        "holdfast",
        "policy",
        "robot",
        "safety_monitor",
        "sim",
    ]
    for name in needed:
        assert (ROOT / name).exists()
        assert not any(PurePosixPath(name).match(pattern) for pattern in ignored), name


def test_pixi_s_tasks_are_commands():
    assert "demo" in PIXI["tasks"]
    for task in PIXI["tasks"].values():
        program, command, *_ = task.split()
        assert program in PROGRAMS
        assert command in COMMANDS


def test_pixi_installs_this_checkout():
    (package,) = PIXI["pypi-dependencies"].items()
    name, settings = package
    assert name == DISTRIBUTION
    assert (ROOT / settings["path"] / "setup.py").is_file()
    assert set(settings["extras"]) <= EXTRAS


def test_pixi_s_python_and_pytorch_are_those_of_the_package():
    wanted = SpecifierSet(PIXI["dependencies"]["python"])
    minors = [f"3.{minor}" for minor in range(5, 30)]
    assert [each for each in minors if wanted.contains(each)] == [
        "3.10",
        "3.11",
        "3.12",
        "3.13",
        "3.14",
    ]
    assert not [each for each in minors if wanted.contains(each) and not PYTHON.contains(each)]
    (torch,) = (
        requirement
        for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or ())
        if requirement.name == "torch"
    )
    assert SpecifierSet(PIXI["dependencies"]["pytorch-cpu"]) == torch.specifier


@pytest.mark.parametrize("text", [DOCKERFILE, str(PIXI)], ids=["Dockerfile", "pixi.toml"])
def test_other_installers_name_extras_that_exist(text):
    found = re.findall(r"\[(\w+)\]'|'extras': \['(\w+)'\]", text)
    assert found
    assert {first or second for first, second in found} <= EXTRAS
    assert DISTRIBUTION in text
