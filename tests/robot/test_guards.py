"""Contracts without a policy: each fits the robot that it names."""

from __future__ import annotations

import pytest

from holdfast import share
from holdfast.bundle.contract_file import load_contract
from holdfast.errors import ContractError
from holdfast.robot.run.assembly import assemble

GUARDS = sorted((share.folder() / "config").glob("guard_*.yaml"))


@pytest.mark.parametrize("path", GUARDS, ids=lambda path: path.stem)
def test_a_guard_fits_its_robot(path):
    assembly = assemble(path, None, (), None)
    assert assembly.bundle is None
    assert path.stem == f"guard_{assembly.contract.robot}"
    section = assembly.config.topics()
    section.require_fit(assembly.contract, assembly.monitor.required)
    assert assembly.contract == load_contract(path)


@pytest.mark.parametrize("path", GUARDS, ids=lambda path: path.stem)
def test_in_a_dry_run_a_robot_is_not_expected_to_follow(path):
    checks = assemble(path, None, (), None, dry=True).config.monitor.checks
    assert not checks.keys() & {"tracking", "following", "frozen", "coasting"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "should be YAML"),
        ("- a", "should be a mapping, received ['a']"),
        ("robot: x\nday: 2026-11-25", "line 2: unknown day"),
    ],
)
def test_what_is_no_contract(tmp_path, text, sentence):
    path = tmp_path / "guard.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
