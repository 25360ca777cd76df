"""Evidence over the episodes of many runs: kept through restarts and kills, and obeyed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from holdfast.cli import main
from holdfast.contract import Cost
from holdfast.errors import ConfigError, RunError
from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult
from holdfast.log.reader import read
from holdfast.robot.run.deployment import Deployment
from holdfast.robot.run.replay import replay
from holdfast.safety_monitor.evidence import Evidence
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs


def contract(limit, episode_cap):
    """Nearly every step costs 1, of 40."""
    cost = Cost("off_line", "abs(position.x) > 1e-6", limit, episode_cap, 1.0, 0.95)
    return drive_contract(episode_steps=40, costs=(cost,))


CONTRACT = contract(10.0, 30.0)
"""Every episode of the twin hits its episode cap."""

AMPLE = contract(38.0, 200.0)
"""None does, and the mean is close to d: nothing is evident for long."""


def result(cost, ended=COMPLETED, code=""):
    return EpisodeResult(0, 40, (cost,), 0, 0, ended, code)


def counted(path, *results, of=CONTRACT):
    """Count episodes for the twin into a file; return its deployment."""
    deployment = Deployment(path, Evidence(of))
    deployment.claim("twin-1")
    for each in results:
        deployment.add(each)
    return deployment


def episodes_in(path):
    return json.loads(path.read_text())["evidence"]["costs"][0]["exceeds"]["count"]


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as the_twin:
        yield the_twin


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    return write_bundle(folder / "policy.onnx", CONTRACT, action=(0.3, 0.5))


@pytest.fixture(scope="module")
def ample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ample")
    return write_bundle(folder / "policy.onnx", AMPLE, action=(0.3, 0.5))


def test_a_restart_goes_on_where_it_left_off(tmp_path):
    whole = counted(tmp_path / "whole.json", *(result(c) for c in (3.0, 12.0, 0.25, 7.1)))
    counted(tmp_path / "parts.json", result(3.0), result(12.0))
    parts = counted(tmp_path / "parts.json", result(0.25), result(7.1))
    assert parts.evidence.to_mapping() == whole.evidence.to_mapping()
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("ended", "code", "whole"),
    [
        (COMPLETED, "", True),
        (STOPPED, "episode_cap_spent", True),
        (STOPPED, "outside_geofence", False),
        (STOPPED, "interrupted", False),
    ],
)
def test_only_a_whole_episode_speaks_for_the_limit(tmp_path, ended, code, whole):
    """What else would it have cost? For the certificate: the most."""
    found = counted(tmp_path / "evidence.json", result(2.0, ended, code)).evidence.costs[0]
    assert (found.keeps.log_evidence > 0.0) == whole
    assert found.total == 2.0


def test_two_runs_one_evidence(tmp_path, twin, ample):
    path = tmp_path / "new" / "evidence.json"
    for number in (1, 2):
        before = json.loads(path.read_text())["evidence"] if path.exists() else None
        options = ["--episodes", "2", "--evidence", str(path)]
        with runs.deployment(tmp_path / f"run{number}", twin.address, ample, *options) as run:
            status, out, err = run.end()
        assert (status, err) == (0, "")
        assert f"evidence of {2 * number} episodes, off_line: not enough yet" in out
        log = run.log()
        if before is not None:
            assert log.info.evidence == before
        assert log.info.evidence["costs"][0]["exceeds"]["count"] == 2 * (number - 1)
        assert not replay(log).differs(log).any()
    summary = json.loads((tmp_path / "run2" / "summary.json").read_text())["evidence"]["off_line"]
    costs = [e.result.costs[0] for n in (1, 2) for e in read(tmp_path / f"run{n}").episodes]
    assert (summary["episodes"], summary["mean"]) == (4, pytest.approx(sum(costs) / 4))
    assert summary["mean_exceeds_limit_since"] is None


def test_an_alarm_ends_the_run_and_refuses_the_next(tmp_path, twin, policy):
    """One more episode at the episode cap is what it takes; found by counting."""
    path, results = tmp_path / "evidence.json", []
    evidence = Evidence(CONTRACT)
    while not any(c.exceeds.reached_at or c.capped.reached_at for c in evidence.costs):
        results.append(result(30.0, STOPPED, "episode_cap_spent"))
        evidence.add((30.0,), True)
    counted(path, *results[:-1])
    before = twin.episodes()
    options = ["--episodes", "3", "--evidence", str(path)]
    with runs.deployment(tmp_path / "run", twin.address, policy, *options) as run:
        status, out, err = run.end()
    assert status == 1
    assert "the monitor does not let the robot start: off_line: " in err
    assert f"evident after {len(results)} episodes" in err
    assert f"evidence of {len(results)} episodes, off_line: ALARM" in out
    assert twin.episodes() == before + 1
    log = run.log()
    assert [episode.result.costs for episode in log.episodes] == [(30.0,)]
    assert log.events[-1].name == "stop"
    assert not replay(log).differs(log).any()  # the refused arming too
    with runs.deployment(tmp_path / "again", twin.address, policy, *options) as run:
        status, _, err = run.end()
    assert status == 1
    assert "the monitor does not let the robot start" in err
    assert run.log().episodes == ()
    assert episodes_in(path) == len(results)


def test_a_kill_loses_no_episode_that_had_ended(tmp_path, twin, ample):
    path = tmp_path / "evidence.json"
    options = ["--episodes", "1000", "--evidence", str(path)]
    with runs.deployment(tmp_path / "run", twin.address, ample, *options) as run:
        runs.until(lambda: path.exists() and episodes_in(path) >= 3)
        os.kill(run.process.pid, signal.SIGKILL)
        run.process.wait()
    kept = episodes_in(path)
    ended = [e.result for e in run.log().episodes if e.result.ended != "torn"]
    assert kept >= 3
    assert len(ended) <= kept <= len(ended) + 1  # the log is written by a thread
    again = Evidence(AMPLE)
    for each in ended[:kept]:
        again.add(each.costs, True)
    if kept == len(ended):
        assert json.loads(path.read_text())["evidence"] == again.to_mapping()
    assert Deployment(path, Evidence(AMPLE)).evidence.episodes == kept


def test_a_kill_while_it_writes_leaves_a_whole_file(tmp_path):
    """Killed again and again at moments that nobody chose."""
    path = tmp_path / "evidence.json"
    counted(path)
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from test_deployment import *\n"
        f"deployment = counted(__import__('pathlib').Path({str(path)!r}))\n"
        "print('writes', flush=True)\n"
        "while True: deployment.add(result(2.0))\n"
    )
    last = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"writes\n"
        runs.until(lambda last=last: episodes_in(path) > last + 5)
        process.kill()
        process.communicate()
        kept = Deployment(path, Evidence(CONTRACT)).evidence.episodes
        assert kept > last
        last = kept


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "evidence.json: should be JSON"),
        ("[1]", "should hold the evidence of a deployment"),
        ('{"hardware_id": "twin-1"}', "should hold the evidence of a deployment"),
        ('{"hardware_id": "twin-1", "evidence": 7}', "saved evidence should be a mapping"),
    ],
)
def test_files_that_are_no_evidence(tmp_path, text, sentence):
    (tmp_path / "evidence.json").write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        Deployment(tmp_path / "evidence.json", Evidence(CONTRACT))
    assert "\n" not in str(caught.value)


def test_evidence_of_another_contract_robot_or_budget(tmp_path, twin, policy):
    path = tmp_path / "evidence.json"
    counted(path, result(3.0), of=drive_contract())
    kept = path.read_bytes()
    with runs.deployment(tmp_path / "run", twin.address, policy, "--evidence", str(path)) as run:
        status, out, err = run.end()
    assert (status, out) == (1, "")
    assert "is of another contract, episode cap" in err
    assert err.count("\n") == 1
    assert not run.out.exists()  # refused before anything was run
    assert path.read_bytes() == kept
    with pytest.raises(ConfigError, match="of another contract, episode cap"):
        Deployment(path, Evidence(drive_contract(), {"outside_corridor": 20.0}))
    same = Deployment(path, Evidence(drive_contract()))
    with pytest.raises(ConfigError, match="is the evidence of robot 'twin-1', not of 'unit-7'"):
        same.claim("unit-7")
    assert path.read_bytes() == kept


def test_evidence_that_grew_since_it_was_read(tmp_path):
    path = tmp_path / "evidence.json"
    early = Deployment(path, Evidence(CONTRACT))
    counted(path, result(3.0))
    with pytest.raises(RunError, match="another run added to"), early.claimed("twin-1"):
        pytest.fail("it would overwrite what the other run counted")
    assert episodes_in(path) == 1


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "folder" / "evidence.json.part").mkdir(parents=True)
    with pytest.raises(RunError, match="evidence cannot be written") as caught:
        Deployment(tmp_path / "folder" / "evidence.json", Evidence(CONTRACT)).claim("twin-1")
    assert caught.value.code == "evidence_lost"
    with pytest.raises(ConfigError, match="cannot be read"):
        Deployment(tmp_path / "folder", Evidence(CONTRACT))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--evidence", "run/run_0.mcap"), "evidence should be a JSON file, not a log"),
        (("--seed", str(10**400)), "seed should be in [0, "),
    ],
    ids=["evidence", "seed"],
)
def test_options_that_nothing_can_use(capsys, options, sentence):
    assert main(["deploy", "--robot", "serial:/dev/null", "--policy", "p.onnx", *options]) == 1
    assert sentence in capsys.readouterr().err
