"""What happens to a registry between two steps, or with files that somebody else changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import BundleError, RegistryError
from holdfast.robot.run.admission import admit
from tests.helpers.data.bundles import write_bundle
from tests.robot.test_promote import anyway, experience, registry, robot_file, run, sign, slots


@pytest.fixture
def config(tmp_path):
    return robot_file(tmp_path)


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    return [write_bundle(folder / f"{i}.onnx", action=(0.1 * i, 0.2)) for i in (1, 2)]


def actions(config) -> list[str]:
    return [entry.action for entry in registry(config).entries()]


# Between the admission of a policy and the receipt of its begin.


@pytest.mark.parametrize("wanted", ["promoted", "file"])
def test_a_hold_while_a_run_begins_is_obeyed(config, policies, wanted):
    assert anyway(policies[0], config) == 0
    admission = admit(policies[0] if wanted == "file" else Path(wanted), config)
    assert run("hold", "promoted", "--config", config, "--why", "it hits people") == 0
    with (
        pytest.raises(BundleError, match="is held on drive-7: it hits people"),
        admission.run("runs/x"),
    ):
        pytest.fail("it ran")
    assert actions(config) == ["promote", "hold"]


def test_a_policy_that_left_its_slot_does_not_begin(config, policies):
    assert anyway(policies[0], config) == 0
    admission = admit(Path("promoted"), config)
    assert anyway(policies[1], config) == 0
    with (
        pytest.raises(RegistryError, match="left the slot promoted of drive-7"),
        admission.run("runs/x"),
    ):
        pytest.fail("it ran")
    assert actions(config) == ["promote", "promote"]


def test_a_counter_that_rose_while_a_run_begins_is_obeyed(tmp_path):
    config = robot_file(tmp_path, keys=True)
    old, new = (write_bundle(tmp_path / f"{n}.onnx", action=(n, 0.0)) for n in (0.1, 0.2))
    sign(old, counter=1)
    sign(new, counter=2)
    admission = admit(old, config)
    assert anyway(new, config) == 0
    with pytest.raises(BundleError, match="counter should be at least 2"), admission.run("runs/x"):
        pytest.fail("it ran")
    assert slots(config)[0] is not None


# An alarm that no hold was written of, as after a kill between the two.


def test_an_alarm_holds_from_the_moment_it_is_evident(config, policies, capsys):
    path = policies[0]
    assert run("promote", path, "--config", config, "--canary") == 0
    slot = registry(config).state.slot("canary")
    experience(config, path, [20.0] * 40)
    assert registry(config).state.held == {}
    deploy = ["deploy", "--robot", "serial:/dev/nothing", "--policy", path]
    for words in (deploy, ["promote", path, "--anyway", "x"], ["promote", path, "--canary"]):
        assert run(*words, "--config", config) == 1
        assert "is held on drive-7: alarm after" in capsys.readouterr().err
    assert registry(config).state.slot("canary") == slot
    assert actions(config) == ["canary"]


def test_an_alarm_while_a_run_begins_is_obeyed(config, policies):
    assert run("promote", policies[0], "--config", config, "--canary") == 0
    admission = admit(policies[0], config)
    experience(config, policies[0], [20.0] * 40)
    with pytest.raises(BundleError, match="alarm after"), admission.run("runs/x"):
        pytest.fail("it ran")
