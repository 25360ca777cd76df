"""A canary's trial on a twin ends with a certificate, an alarm or its allowance."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from holdfast import files
from holdfast.cli import main
from holdfast.contract import Cost
from holdfast.errors import RunError
from holdfast.log.reader import read
from holdfast.registry.registry import Registry
from holdfast.robot import config as configs
from holdfast.robot.promote import receipts
from holdfast.robot.run.admission import admit
from holdfast.robot.run.by_count import EpisodesByCount
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs

KEEPS, EXCEEDS, BETWEEN = "abs(position.x) > 50.0", "abs(position.x) > 1e-6", "position.x > 1e-6"


def policy_of(path, expression, limit=10.0, action=(0.3, 0.5)):
    cost = Cost("off_line", expression, limit, 30.0, 1.0, 0.95)
    return write_bundle(path, drive_contract(episode_steps=40, costs=(cost,)), action=action)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as the_twin:
        yield the_twin


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text("extends: drive\nregistry: {folder: registry, hardware_id: twin-1}\n")
    return path


def registry(config) -> Registry:
    opened = configs.load(config).open_registry()
    assert opened is not None
    return opened


def run(*arguments):
    return main([str(each) for each in arguments])


def deploy(twin, config, out, *options):
    return run("deploy", "--robot", twin.address, "--config", config, "--out", out, *options)


def place(policy, config, *options):
    assert run("promote", policy, "--config", config, "--canary", *options) == 0


def test_a_trial_ends_with_a_certificate_and_the_promoted_policy_runs(
    twin, config, tmp_path, capsys
):
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    place(policy, config)
    assert deploy(twin, config, tmp_path / "first", "--canary", "--episodes", "2") == 0
    assert "canary: undecided after 2 episodes, 98 are left" in capsys.readouterr().out
    assert deploy(twin, config, tmp_path / "second", "--canary") == 0
    said = capsys.readouterr().out
    assert "canary: certified after 8 episodes; `holdfast promote` may promote" in said
    assert read(tmp_path / "second").info.episode_cap == {"off_line": 20.0}
    assert deploy(twin, config, tmp_path / "third", "--canary") == 1
    assert "the trial of the canary has ended: certified" in capsys.readouterr().err
    assert deploy(twin, config, tmp_path / "third", "--policy", "promoted") == 1
    assert "twin-1 has no policy in the slot promoted" in capsys.readouterr().err
    assert run("promote", policy, "--config", config, "--by", "Ada") == 0
    policy.unlink()  # the registry has its own
    assert deploy(twin, config, tmp_path / "third", "--policy", "promoted") == 0
    log = read(tmp_path / "third")
    assert log.info.bundle_hash == registry(config).state.slot("promoted").bundle
    assert log.info.episode_cap == {"off_line": 20.0}
    summary = json.loads((tmp_path / "third" / "summary.json").read_text())
    assert summary["evidence"]["off_line"]["episodes"] == 9  # it goes on
    first, second, third = receipts.runs(registry(config).entries(), {})
    assert (first.slot, first.how) == (
        "canary",
        "2 episodes; undecided after 2 episodes, 98 are left",
    )
    assert second.how.startswith("6 episodes; certified after 8 episodes")
    assert (third.slot, third.let_by, third.how) == ("promoted", "Ada, receipt 5", "1 episode")
    assert third.run == str(tmp_path / "third")
    assert run("receipts", "--config", config, "--day", third.begun[:10]) == 0
    said = capsys.readouterr().out
    assert f"3 runs of twin-1 on {third.begun[:10]}, times in UTC:" in said
    wanted = f"promoted {third.bundle[:12]}, let by Ada, receipt 5: 1 episode; log {third.run}"
    assert f"{third.begun} to {third.ended}: {wanted}" in said
    assert f"\nnow promoted: {third.bundle[:12]}" in said  # whatever was so on that day
    assert run("receipts", "--config", config, "--day", "2001-01-01") == 0
    assert "Ada" not in capsys.readouterr().out


@pytest.mark.parametrize(("number", "ending"), [("TERM", " by SIGTERM"), ("INT", "")])
def test_a_receipt_says_which_signal_ended_a_run(twin, config, tmp_path, number, ending):
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    assert run("promote", policy, "--config", config, "--anyway", "a test") == 0
    options = ("--config", str(config), "--episodes", "10000")
    with runs.deployment(tmp_path / "run", twin.address, "promoted", *options) as deployment:
        deployment.wait_for_steps(5)
        deployment.process.send_signal(getattr(signal, f"SIG{number}"))
        assert deployment.end()[0] == 130
    (ran,) = receipts.runs(registry(config).entries(), {})
    assert re.fullmatch(rf"\d+ episodes?, interrupted{ending}", ran.how)


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (SystemExit(1), "the program was told to exit, with status 1"),
        (KeyboardInterrupt(), "interrupted"),
        (KeyError(1), "KeyError: 1"),
        (RunError("the link was cut", "link_lost"), "the link was cut"),
    ],
)
def test_a_receipt_says_what_ended_a_run(config, tmp_path, error, how):
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    assert run("promote", policy, "--config", config, "--anyway", "a test") == 0
    with pytest.raises(type(error)), admit("promoted", config).run("run"):
        raise error
    (ran,) = receipts.runs(registry(config).entries(), {})
    assert ran.how == how


def test_an_alarm_ends_the_trial_and_holds_the_policy(twin, config, tmp_path, capsys):
    policy = policy_of(tmp_path / "policy.onnx", EXCEEDS)
    place(policy, config)
    assert deploy(twin, config, tmp_path / "run", "--canary") == 0
    said = capsys.readouterr().out
    assert "canary: alarm after 3 episodes: the episode cap of off_line is hit too often" in said
    assert registry(config).state.canary is None
    assert deploy(twin, config, tmp_path / "more", "--canary") == 1
    assert "has no policy in the slot canary" in capsys.readouterr().err
    for options in (["--canary"], ["--anyway", "it looked good"]):
        assert run("promote", policy, "--config", config, *options) == 1
        assert "is held on twin-1: alarm after 3 episodes" in capsys.readouterr().err


def test_a_fault_does_not_hide_an_alarm(twin, config, tmp_path, capsys, monkeypatch):
    """The run ends by a fault after the third episode; its alarm is a hold all the same."""
    place(policy_of(tmp_path / "policy.onnx", EXCEEDS), config)
    episode, done = EpisodesByCount._episode, []

    def fails(self, number):
        episode(self, number)
        done.append(number)
        if len(done) == 3:
            raise RunError("the link was cut", "link_lost")

    monkeypatch.setattr(EpisodesByCount, "_episode", fails)
    assert deploy(twin, config, tmp_path / "run", "--canary") == 1
    assert "the link was cut" in capsys.readouterr().err
    assert [e.action for e in registry(config).entries()] == ["canary", "run", "hold", "end"]


def test_two_runs_never_add_to_one_evidence_at_once(twin, config, tmp_path, capsys):
    """Each would overwrite what the other counted."""
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    place(policy, config)
    assert deploy(twin, config, tmp_path / "first", "--canary", "--episodes", "1") == 0
    for number, options in enumerate((["--canary"], ["--policy", policy, "--evidence"])):
        path = tmp_path / "own.json"
        if number == 0:
            slot = registry(config).state.slot("canary")
            path = registry(config).evidence(slot)
        else:
            options.append(path)
        with files.locked(path.with_name(path.name + ".lock"), 0.0):  # as a run that is under way
            before = path.exists() and path.read_bytes()
            assert deploy(twin, config, tmp_path / f"second-{number}", *options) == 1
        said = capsys.readouterr().err
        assert f"the evidence is that of one run at a time: {path}.lock: is held by process" in said
        assert (path.exists() and path.read_bytes()) == before
        assert not (tmp_path / f"second-{number}").exists()
    assert deploy(twin, config, tmp_path / "third", "--canary", "--episodes", "1") == 0
    assert "undecided after 2 episodes" in capsys.readouterr().out


def test_an_allowance_ends_the_trial_without_a_decision(twin, config, tmp_path, capsys):
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    place(policy, config, "--allowance", "3")
    assert deploy(twin, config, tmp_path / "run", "--canary") == 0
    wanted = "undecided after 3 episodes, and the allowance of 3 is used up"
    assert wanted in capsys.readouterr().out
    assert deploy(twin, config, tmp_path / "more", "--canary") == 1
    assert wanted in capsys.readouterr().err
    assert run("promote", policy, "--config", config) == 1
    said = capsys.readouterr().err
    assert (
        "nothing is certified after 3 episodes; go on with --canary and an --allowance of more"
        in said
    )
    assert run("promote", policy, "--config", config, "--canary", "--allowance", "3") == 1
    assert "allowance should be more than the 3 episodes" in capsys.readouterr().err
    place(policy, config, "--allowance", "4")  # a person allows more; what was counted stays
    assert deploy(twin, config, tmp_path / "more", "--canary") == 0
    assert "undecided after 4 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--canary", "--policy", "promoted"], "should have one of --policy and --canary"),
        ([], "should have one of --policy and --canary"),
        (["--canary", "--episode-cap", "off_line=5"], "give neither --episode-cap nor --evidence"),
        (["--canary", "--evidence", "e.json"], "give neither --episode-cap nor --evidence"),
        (["--canary", "--explore"], "was admitted without --explore, and should run so"),
    ],
)
def test_options_that_cannot_be(twin, config, tmp_path, capsys, options, sentence):
    place(policy_of(tmp_path / "policy.onnx", KEEPS), config)
    assert deploy(twin, config, tmp_path / "run", *options) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert [e.action for e in registry(config).entries()] == ["canary"]


def test_another_robot_is_refused(twin, config, tmp_path, capsys):
    config.write_text(config.read_text().replace("twin-1", "drive-7"))
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    place(policy, config)
    for options in (["--canary"], ["--policy", policy]):
        assert deploy(twin, config, tmp_path / "run", *options) == 1
        wanted = "registry is of drive-7, and this robot says that it is twin-1: give its own"
        assert wanted in capsys.readouterr().err
    assert not (tmp_path / "registry" / "evidence").exists()


def test_a_policy_from_a_file_has_a_receipt_too(twin, config, tmp_path):
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    assert deploy(twin, config, tmp_path / "run", "--policy", policy) == 0
    (ran,) = receipts.runs(registry(config).entries(), {})
    assert (ran.slot, ran.how) == ("", "1 episode")


def test_a_killed_run_has_a_begin_and_no_end(twin, config, tmp_path):
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    options = ["--config", str(config), "--episodes", "1000"]
    with runs.deployment(tmp_path / "run", twin.address, policy, *options) as running:
        running.wait_for_steps(5)
        running.process.send_signal(signal.SIGKILL)
        running.end()
    (ran,) = receipts.runs(registry(config).entries(), {})
    assert (ran.ended, ran.how) == ("", "no end was written")


def test_a_killed_trial_loses_its_episode(twin, config, tmp_path, capsys):
    """Else a run that is killed whenever it goes badly would certify anything."""
    policy = policy_of(tmp_path / "policy.onnx", KEEPS)
    place(policy, config)
    words = [sys.executable, "-m", "holdfast", "deploy", "--robot", twin.address, "--canary"]
    for number in range(2):
        out = tmp_path / f"killed-{number}"
        running = subprocess.Popen([*words, "--config", str(config), "--out", str(out)])
        runs.until(lambda out=out: (out / f"{out.name}_0.mcap").exists())
        running.kill()
        running.wait()
    slot = registry(config).state.slot("canary")
    before = json.loads(registry(config).evidence(slot).read_text())
    counted = before["evidence"]["costs"][0]["keeps"]["count"]
    assert deploy(twin, config, tmp_path / "run", "--canary", "--episodes", "1") == 0
    lost = [run for run in receipts.runs(registry(config).entries(), {}) if "killed" in run.how]
    assert [run.run for run in lost] == [str(tmp_path / f"killed-{n}") for n in range(2)]
    after = json.loads(registry(config).evidence(slot).read_text())["evidence"]["costs"][0]
    assert after["keeps"]["count"] == counted + 2  # the second of them, and the new one
    assert after["total"] == 0.0
