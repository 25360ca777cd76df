"""What may run on a robot: promoting, holding, going back; kills, full disks and receipts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import RegistryError
from holdfast.registry.signing import digest
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.faults import interrupted
from tests.helpers.robots.registries import (
    anyway,
    experience,
    registry,
    robot_file,
    run,
    sign,
    slots,
)


@pytest.fixture
def config(tmp_path):
    return robot_file(tmp_path)


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Three bundles, with their digests."""
    folder = tmp_path_factory.mktemp("policies")
    paths = [write_bundle(folder / f"{i}.onnx", action=(0.1 * i, 0.2)) for i in (1, 2, 3)]
    return paths, [digest(path.read_bytes()) for path in paths]


def test_a_trial_certifies_a_policy_and_then_it_is_promoted(config, policies, capsys):
    (first, second, _), (a, b, _) = policies
    assert anyway(first, config) == 0
    assert run("promote", second, "--config", config) == 1
    assert "nothing is certified after 0 episodes; begin its trial" in capsys.readouterr().err
    assert run("promote", second, "--config", config, "--canary") == 0
    assert slots(config) == (a, None, b)
    experience(config, [1.0] * 5)
    assert run("promote", second, "--config", config) == 1
    assert "nothing is certified after 5 episodes; run its trial with" in capsys.readouterr().err
    experience(config, [1.0] * 25)
    assert run("promote", second, "--config", config, "--by", "Ada") == 0
    assert slots(config) == (b, a, None)
    *_, last = registry(config).entries()
    assert (last.action, last.by, last.why) == ("promote", "Ada", "certified after 30 episodes")
    # What was proved holds under the caps of the trial.
    assert registry(config).state.slot("promoted").episode_cap == {"outside_corridor": 20.0}


def test_an_alarm_is_no_certificate(config, policies, capsys):
    path, b = policies[0][1], policies[1][1]
    assert run("promote", path, "--config", config, "--canary") == 0
    deployment = experience(config, [0.5] * 40 + [20.0] * 40)
    assert deployment.evidence.costs[0].keeps.reached_at is not None
    assert run("promote", path, "--config", config) == 1
    assert "the episode cap of outside_corridor is hit too often" in capsys.readouterr().err
    assert slots(config) == (None, None, b)


def test_trying_again_does_not_forget(config, policies, capsys):
    """Else a policy would be tried until one trial certifies it by luck."""
    second, third = policies[0][1:]
    for path in (second, third):
        assert run("promote", path, "--config", config, "--canary") == 0
        experience(config, [12.0] * 5)
    assert run("promote", second, "--config", config, "--canary") == 0
    assert experience(config, []).evidence.episodes == 5
    other = ["--canary", "--episode-cap", "outside_corridor=15"]
    assert run("promote", second, "--config", config, *other) == 1
    said = capsys.readouterr().err
    assert "on drive-7 tells nothing of it under these episode caps: " in said
    assert said.endswith("saved evidence: is of another contract, episode cap, alpha or "
                         "cap_hit_rate; evidence cannot be carried over\n")  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"drive-7"', '"drive-8"', "is the evidence of robot 'drive-8', not of 'drive-7'"),
        ('"outside_corridor": 10.0', '"outside_corridor": 99.0', "limit should be "),
        ('"count": 40', '"count": 41', "log_wealth should be between "),
        ('"hardware_id"', "hardware_id", "should be JSON ("),
    ],
)
def test_evidence_that_cannot_be_promotes_nothing(config, policies, capsys, old, new, sentence):
    path = policies[0][1]
    assert run("promote", path, "--config", config, "--canary") == 0
    evidence = experience(config, [0.5] * 40).path
    text = evidence.read_text()
    assert old in text
    evidence.write_text(text.replace(old, new))
    capsys.readouterr()
    assert run("promote", path, "--config", config) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    evidence.write_text(text)
    assert run("promote", path, "--config", config) == 0


def test_sampled_actions_are_another_proof(config, policies):
    second = policies[0][1]
    assert run("promote", second, "--config", config, "--canary") == 0
    experience(config, [1.0] * 40)
    assert run("promote", second, "--config", config, "--canary", "--explore") == 0
    assert experience(config, []).evidence.episodes == 0


def test_going_back_holds_what_was_promoted(config, policies, capsys):
    (first, second, _), (a, b, _) = policies
    assert run("rollback", "--config", config, "--why", "it shakes") == 1
    assert "drive-7 has no policy in the slot promoted" in capsys.readouterr().err
    assert anyway(first, config) == 0
    assert run("rollback", "--config", config, "--why", "it shakes") == 1
    assert "drive-7 has no previous policy to go back to" in capsys.readouterr().err
    assert anyway(second, config) == 0
    assert run("rollback", "--config", config, "--why", "it shakes") == 0
    assert slots(config) == (a, None, None)
    assert anyway(second, config) == 1
    assert f"{b[:12]} is held on drive-7: it shakes" in capsys.readouterr().err
    release = ["hold", b[:8], "--config", config, "--release", "--why", "the wheel was loose"]
    assert run(*release) == 0
    assert run(*release) == 1
    assert anyway(second, config) == 0
    assert slots(config) == (b, a, None)


def test_a_held_policy_is_neither_canary_nor_previous(config, policies, capsys):
    (first, second, third), (a, b, c) = policies
    for path in (first, second):
        assert anyway(path, config) == 0
    assert run("promote", third, "--config", config, "--canary") == 0
    for name in ("canary", first, b):
        assert run("hold", name, "--config", config, "--why", "a recall") == 0
    assert slots(config) == (b, a, None)
    assert run("rollback", "--config", config, "--why", "it shakes") == 1
    assert f"{a[:12]} is held on drive-7: a recall" in capsys.readouterr().err
    assert set(registry(config).state.held) == {a, b, c}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["promote", "nothing.onnx"], "nothing.onnx: cannot be read"),
        (["promote", "robot.yaml"], "not a Holdfast bundle"),
        (["promote", "p.onnx", "--canary", "--allowance", "0"], "allowance should be at least 1"),
        (["promote", "p.onnx", "--canary", "--episode-cap", "bumps=1"], "unknown cost bumps"),
        (["promote", "p.onnx", "--canary", "--episode-cap", "outside_corridor=31"], "at most the"),
        (["promote", "ant.onnx", "--canary"], "the configuration is of robot 'drive', the policy"),
        (
            ["hold", "1234567", "--why", "x"],
            "policy should be promoted, canary, a file, or the SHA",
        ),
        (["receipts", "--day", "tuesday"], "day should be a day, written as 2026-11-24"),
        (["receipts", "--day", "9999-99-99"], "day should be a day, written as 2026-11-24"),
    ],
)
def test_requests_that_cannot_be(config, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "p.onnx")
    write_bundle(tmp_path / "ant.onnx", drive_contract(robot="ant"))
    assert run(*arguments, "--config", config) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert not list((tmp_path / "registry").rglob("*.json"))


def test_a_robot_s_file_without_a_registry(tmp_path, capsys):
    (tmp_path / "robot.yaml").write_text("extends: drive\n")
    assert run("rollback", "--config", tmp_path / "robot.yaml", "--why", "x") == 1
    assert "should have a section registry, with folder and hardware_id" in capsys.readouterr().err


# Signatures.


def test_a_robot_with_trusted_keys(tmp_path, capsys):
    config = robot_file(tmp_path, keys=True)
    old, new = (write_bundle(tmp_path / f"{n}.onnx", action=(n, 0.0)) for n in (0.1, 0.2))
    assert anyway(old, config) == 1
    assert "should be signed by one of alice, it has no signature" in capsys.readouterr().err
    sign(old)
    sign(new, "canary", counter=2)
    assert anyway(old, config) == 0
    assert run("promote", new, "--config", config, "--canary") == 0
    experience(config, [1.0] * 30)
    assert run("promote", new, "--config", config) == 1
    assert "is signed as canary; that should be promoted" in capsys.readouterr().err
    sign(new, "promoted", counter=3)
    assert run("promote", new, "--config", config) == 0
    assert run("rollback", "--config", config, "--why", "it shakes") == 0  # to a lower counter
    third = write_bundle(tmp_path / "3.onnx", action=(0.3, 0.0))
    sign(third, counter=2)
    assert run("promote", third, "--config", config, "--canary") == 1
    assert "its signature's counter should be at least 3" in capsys.readouterr().err


def test_an_unsigned_file_is_never_parsed(tmp_path, capsys):
    """What is no ONNX at all is refused for its signature; signed, for what it is."""
    config = robot_file(tmp_path, keys=True)
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"no bundle")
    deploy = ["deploy", "--robot", "serial:/dev/nothing", "--policy", junk, "--config", config]
    for command in (deploy, ["promote", junk, "--config", config, "--canary"]):
        junk.with_suffix(".onnx.signature").unlink(missing_ok=True)
        assert run(*command) == 1
        assert "should be signed by one of alice" in capsys.readouterr().err
        sign(junk)
        assert run(*command) == 1
        assert "not a Holdfast bundle" in capsys.readouterr().err


# Power cuts and full disks.


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full"])
@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_change_happens_completely_or_not_at_all(how, command, tmp_path, policies):
    """At each file operation in turn; afterwards the command is done, and can be done again."""
    (first, second, third), (a, b, c) = policies
    config = robot_file(tmp_path)
    assert anyway(first, config) == 0
    assert anyway(second, config) == 0
    before = (b, a, None)
    if command == "promote":
        words = ["promote", third, "--config", config, "--anyway", "it is better"]
        after = (c, b, None)
    else:
        words = ["rollback", "--config", config, "--why", "it shakes"]
        after = (a, None, None)
    saved, seen, number = tmp_path / "saved", set(), 0
    shutil.copytree(tmp_path / "registry", saved)
    while True:
        number += 1
        status, said, reached = interrupted.run(how, number, words)
        now = slots(config)
        seen.add(now)
        assert now in (before, after), (number, said)
        opened = registry(config)
        assert len(list(opened.entries())) == 2 + (now == after)
        for slot in (opened.state.promoted, opened.state.previous):
            if slot is not None:
                opened.read(slot.bundle)
        if not reached:
            break
        if how == "kill":
            assert status == -signal.SIGKILL
        elif status:
            assert status == 1, number
            assert "No space left on device" in said, number
            assert not list((tmp_path / "registry").rglob("*.part"))
        else:  # as for a folder that could not be made, and is there
            assert now == after, number
        shutil.rmtree(tmp_path / "registry")
        shutil.copytree(saved, tmp_path / "registry")
    assert (status, now) == (0, after), said
    assert number > (40 if command == "promote" and how == "kill" else 15)
    if how == "kill":
        assert seen == {before, after}  # it was also killed after the change


def test_what_a_kill_left_is_in_nobody_s_way(tmp_path, config, policies):
    (first, second, _), (a, b, _) = policies
    assert anyway(first, config) == 0
    for number in (4, 8, 12):
        words = ["promote", second, "--config", config, "--anyway", "x"]
        assert interrupted.run("kill", number, words)[0] == -signal.SIGKILL
    assert anyway(second, config) == 0
    assert slots(config) == (b, a, None)
    assert not list((tmp_path / "registry").rglob("*.part"))


# The journal.


def entry(tmp_path: Path, number: int) -> Path:
    return tmp_path / "registry" / "journal" / f"{number:08d}.json"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_text(path.read_text().replace("the first", "the worst")),
         "00000002.json: does not follow the entry before it; one of them was altered"),
        (lambda path: path.unlink(), "00000001.json: cannot be read"),
        (lambda path: path.write_text(""), "00000001.json: should be JSON"),
        (lambda path: path.write_text(path.read_text().replace('"number": 1', '"number": 7')),
         "should have the number 1, it has 7"),
    ],
)  # fmt: skip
def test_receipts_that_were_altered(tmp_path, config, policies, damage, sentence):
    for path in policies[0]:
        assert anyway(path, config) == 0
    damage(entry(tmp_path, 1))
    with pytest.raises(RegistryError, match=sentence):
        list(registry(config).entries())


def test_the_newest_receipt_is_damaged(tmp_path, config, policies, capsys):
    assert anyway(policies[0][0], config) == 0
    entry(tmp_path, 0).write_text("{")
    assert anyway(policies[0][1], config) == 1
    assert "00000000.json: should be JSON" in capsys.readouterr().err


def test_a_registry_of_another_robot(tmp_path, config, policies, capsys):
    assert anyway(policies[0][0], config) == 0
    robot_file(tmp_path, unit="drive-8")
    assert anyway(policies[0][1], config) == 1
    assert "is the registry of drive-7 ('drive'), not of drive-8" in capsys.readouterr().err


def test_a_kept_bundle_that_was_altered(tmp_path, config, policies, capsys):
    path, a = policies[0][0], policies[1][0]
    assert anyway(path, config) == 0
    kept = registry(config).bundle(a)
    kept.write_bytes(kept.read_bytes() + b"x")
    deploy = ["deploy", "--robot", "serial:/dev/nothing", "--config", config]
    assert run(*deploy, "--policy", "promoted") == 1
    assert "should have the SHA-256 of its name; it was altered" in capsys.readouterr().err


def test_two_changes_at_once_are_two_receipts(config, policies):
    assert anyway(policies[0][0], config) == 0
    words = [sys.executable, "-m", "holdfast", "hold", "promoted", "--config", str(config)]
    started = [subprocess.Popen([*words, "--why", str(i)]) for i in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    entries = list(registry(config).entries())
    assert [e.number for e in entries] == list(range(5))
    assert {e.why for e in entries[1:]} == {"0", "1", "2", "3"}


def test_receipts_as_json(tmp_path, config, policies, capsys):
    assert anyway(policies[0][0], config, "--by", "Ada") == 0
    out = tmp_path / "receipts.json"
    assert run("receipts", "--config", config, "--json-out", out) == 0
    (told,) = json.loads(out.read_text())
    assert (told["by"], told["action"]) == ("Ada", "promote")
    new = f"a new registry was begun in {tmp_path / 'registry'}"
    assert told["why"] == f"the first; {new}"
    assert new in capsys.readouterr().out
    assert anyway(policies[0][1], config) == 0
    assert new not in capsys.readouterr().out
    assert run("receipts", "--config", config) == 0
    assert policies[1][0][:12] in capsys.readouterr().out
