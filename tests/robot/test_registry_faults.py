"""What happens to a registry between two steps, or with files that somebody else changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from holdfast import files
from holdfast.errors import BundleError, RegistryError
from holdfast.robot.run.admission import admit
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots.registries import (
    anyway,
    experience,
    registry,
    robot_file,
    run,
    sign,
    slots,
)
from tests.helpers.web.logs import drive_info, record


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
    experience(config, [20.0] * 40)
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
    experience(config, [20.0] * 40)
    with pytest.raises(BundleError, match="alarm after"), admission.run("runs/x"):
        pytest.fail("it ran")


# A journal that is away, and files in it that are no receipts.


@pytest.mark.parametrize("empty", [False, True])
def test_a_journal_that_is_away_does_not_release_what_was_held(config, policies, capsys, empty):
    assert anyway(policies[0], config) == 0
    assert run("hold", "promoted", "--config", config, "--why", "bad") == 0
    journal = registry(config).folder / "journal"
    journal.rename(journal.with_name("away"))
    if empty:  # as the place of a disk that is not mounted
        journal.mkdir()
    for words in (["promote", policies[0], "--anyway", "x"], ["receipts"]):
        assert run(*words, "--config", config) == 1
        assert "should have its receipts in journal/, which are away" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["²²²²²²²².json", "00000005-old.json", "00000001 (copy).json"])
def test_a_file_that_is_no_receipt_is_in_nobody_s_way(config, policies, name):
    assert anyway(policies[0], config) == 0
    journal = registry(config).folder / "journal"
    shutil.copy(journal / "00000000.json", journal / name)
    assert run("hold", "promoted", "--config", config, "--why", "bad") == 0
    assert actions(config) == ["promote", "hold"]


# Texts that no receipt should have.

LATIN = b"J\xfcrgen".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hold", "promoted", "--why", LATIN], "why should be a text of at most 1000 characters"),
        (["hold", "promoted", "--why", "x" * 1001], "why should be a text of at most 1000 char"),
        (["hold", "promoted", "--why", "x", "--by", LATIN], "by should be a text of at most"),
        (["hold", "promoted", "--why", " "], "why should be a reason, received ' '"),
        (["rollback", "--why", ""], "why should be a reason, received ''"),
        (["promote", "POLICY", "--anyway", LATIN], "why should be a text of at most 1000"),
        (["promote", "POLICY", "--anyway", " "], "anyway should be a reason"),
        (["promote", "POLICY", "--canary", "--allowance", "9" * 401], "and at most 1000000"),
    ],
)
def test_no_request_makes_the_registry_unreadable(config, policies, capsys, words, sentence):
    assert anyway(policies[0], config) == 0
    words = [policies[1] if word == "POLICY" else word for word in words]
    assert run(*words, "--config", config) == 1
    assert sentence in capsys.readouterr().err
    assert actions(config) == ["promote"]
    assert run("receipts", "--config", config) == 0


def test_an_entry_that_cannot_be_read_again_is_not_written(config, policies):
    assert anyway(policies[0], config) == 0
    opened = registry(config)
    with pytest.raises(RegistryError):
        opened.add("run", "0" * 64, lambda state: state, run=LATIN)
    assert actions(config) == ["promote"]


def test_a_run_whose_log_has_no_name_in_utf_8_has_receipts(config, policies):
    assert anyway(policies[0], config) == 0
    with admit(Path("promoted"), config).run(LATIN):
        pass
    assert [entry.run for entry in registry(config).entries()] == ["", *["J\\udcfcrgen"] * 2]


def test_a_signature_for_no_robot(tmp_path, policies, capsys):
    key = tmp_path / "a.pem"
    assert run("key", key) == 0
    words = ["sign", policies[0], "--key", key, "--purpose", "canary"]
    assert run(*words, "--hardware-id", LATIN) == 1
    assert "at most 200 printable characters" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_nobody_goes_back_to_a_bundle_that_is_not_there(config, policies, capsys, damage):
    for path in policies:
        assert anyway(path, config) == 0
    before = slots(config)
    kept = registry(config).bundle(before[1])
    kept.unlink() if damage == "missing" else kept.write_bytes(b"x")
    assert run("rollback", "--config", config, "--why", "it shakes") == 1
    assert kept.name in capsys.readouterr().err
    assert slots(config) == before
    assert registry(config).state.held == {}


# The lock.


def test_a_lock_that_somebody_holds_is_told(config, policies, capsys, monkeypatch):
    assert anyway(policies[0], config) == 0
    monkeypatch.setattr("holdfast.registry.registry.WAIT_S", 0.1)
    with files.locked(registry(config).folder / "lock", 0.0):
        assert run("hold", "promoted", "--config", config, "--why", "bad") == 1
    assert f"is held by process {os.getpid()} after 0.1 s" in capsys.readouterr().err
    assert run("hold", "promoted", "--config", config, "--why", "bad") == 0


def test_a_lock_that_is_a_pipe(config, policies, capsys):
    assert anyway(policies[0], config) == 0
    lock = registry(config).folder / "lock"
    lock.unlink()
    os.mkfifo(lock)
    assert run("hold", "promoted", "--config", config, "--why", "bad") == 1
    assert "cannot be locked (it is no regular file)" in capsys.readouterr().err


# What steers a terminal.

ESCAPES = "\x1b]0;owned\x07\x1b[2Jbad"


def test_receipts_and_refusals_do_not_steer_the_terminal(config, policies, capsys):
    assert anyway(policies[0], config, "--by", ESCAPES) == 0
    assert run("hold", "promoted", "--config", config, "--why", ESCAPES) == 0
    assert run("receipts", "--config", config) == 0
    assert anyway(policies[0], config) == 1
    out, err = capsys.readouterr()
    assert "\\x1b[2Jbad" in out
    assert "\\x1b[2Jbad" in err
    assert "\x1b" not in out + err
    assert "\x07" not in out + err


def test_logs_do_not_steer_the_terminal(tmp_path, capsys):
    identity = {"robot": "drive", "hardware_id": ESCAPES}
    record(tmp_path / "\x1b[2Jrun", drive_info(identity=identity)).close()
    assert run("logs", tmp_path) == 0
    out = capsys.readouterr().out
    assert "\\x1b[2Jbad" in out
    assert "\x1b" not in out


# Receipts that the robot signs.


@pytest.fixture
def signing_robot(tmp_path):
    assert run("key", tmp_path / "unit.pem") == 0
    path = robot_file(tmp_path)
    path.write_text(path.read_text() + "  receipts_key: unit.pem\n")
    return path


def test_a_robot_signs_its_receipts(signing_robot, policies, capsys):
    for policy in policies:
        assert anyway(policy, signing_robot) == 0
    first, second = registry(signing_robot).entries()
    assert first.key == second.key
    assert first.key.startswith("ed25519:")
    assert first.signature != second.signature
    assert run("receipts", "--config", signing_robot) == 0
    assert f"2 of 2 receipts are signed, by {first.key}" in capsys.readouterr().out


def test_receipts_from_before_there_was_a_key(tmp_path, policies, signing_robot, capsys):
    text = signing_robot.read_text()
    signing_robot.write_text(text.replace("  receipts_key: unit.pem\n", ""))
    assert anyway(policies[0], signing_robot) == 0
    signing_robot.write_text(text)
    assert anyway(policies[1], signing_robot) == 0
    assert run("receipts", "--config", signing_robot) == 0
    assert "1 of 2 receipts are signed" in capsys.readouterr().out


def stripped(text):
    entry = json.loads(text)
    return json.dumps({**entry, "key": "", "signature": "", "why": "another"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("the first", "the worst"), "its signature is wrong"),
        (stripped, "should be signed, as the receipt before it is"),
        (lambda text: text.replace('"signature": "', '"signature": "0'), "should be 128 hex"),
    ],
)
def test_a_signed_receipt_that_was_altered(
    tmp_path, policies, signing_robot, capsys, change, sentence
):
    for policy in policies:
        assert anyway(policy, signing_robot) == 0
    newest = tmp_path / "registry" / "journal" / "00000001.json"
    newest.write_text(change(newest.read_text()))
    for words in (["receipts"], ["rollback", "--why", "it shakes"]):
        assert run(*words, "--config", signing_robot) == 1
        assert sentence in capsys.readouterr().err


def test_a_signed_journal_goes_on_with_its_key_alone(tmp_path, policies, signing_robot, capsys):
    assert anyway(policies[0], signing_robot) == 0
    text = signing_robot.read_text()
    assert run("key", tmp_path / "other.pem") == 0
    for changed in ("", "  receipts_key: other.pem\n"):
        signing_robot.write_text(text.replace("  receipts_key: unit.pem\n", changed))
        capsys.readouterr()
        assert anyway(policies[1], signing_robot) == 1
        assert "registry.receipts_key should name this key, received" in capsys.readouterr().err
    signing_robot.write_text(text)
    assert anyway(policies[1], signing_robot) == 0
    assert len(list(registry(signing_robot).entries())) == 2


def test_a_key_for_receipts_that_is_missing(tmp_path, policies, signing_robot, capsys):
    (tmp_path / "unit.pem").unlink()
    assert anyway(policies[0], signing_robot) == 1
    assert "unit.pem: cannot be read" in capsys.readouterr().err
    assert not list(registry(signing_robot).entries())
