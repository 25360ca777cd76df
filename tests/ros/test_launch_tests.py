"""The launch tests, each by its name: on the ROS 2 of this computer, or skipped."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*_launch.py"))
TESTS = [
    (file.stem, node.name)
    for file in FILES
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@cache
def results(stem, environment, folder):
    """Run a file once; return what became of each of its tests, and what was said."""
    report = Path(folder) / f"{stem}.xml"
    ended = subprocess.run(
        ["launch_test", str(HERE / f"{stem}.py"), "--junit-xml", str(report)],
        env={**dict(environment), "HOLDFAST_TEST_FOLDER": folder},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if not report.exists():
        return {}, ended.stdout + ended.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {
        (case.get("classname"), case.get("name")): [
            (part.get("message") or "") + (part.text or "")
            for kind in ("failure", "error")
            for part in case.iter(kind)
        ]
        for case in cases
    }, ended.stdout + ended.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("stem", "name"), TESTS, ids=["-".join(test) for test in TESTS])
def test_launch(stem, name, workspace, folder):
    found, said = results(stem, tuple(sorted(workspace.items())), str(folder))
    own = {key: problems for key, problems in found.items() if key[1].startswith(name)}
    assert own, said[-5000:]
    assert {key: problems for key, problems in own.items() if problems} == {}, said[-5000:]
