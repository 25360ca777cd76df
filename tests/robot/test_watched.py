"""What the page is told of a run is what the log holds, whatever the log holds."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import LogError
from holdfast.log.format import NO_STEP
from holdfast.log.reader import read
from holdfast.robot.view import sentences
from holdfast.robot.view.watched_run import MOST_ROWS, WatchedRun
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.messages import State
from holdfast.safety_monitor.reasons import TABLE
from tests.helpers.data.mutations import mutated_bytes
from tests.helpers.data.recordings import info
from tests.helpers.web import logs


def whole(path):
    """A run that was read to its end."""
    run = WatchedRun(path)
    while run.read():
        pass
    return run


@pytest.fixture
def folder(tmp_path):
    logs.record(tmp_path / "run", logs.with_scan()).close()
    return tmp_path / "run"


def test_rows_are_the_log_s(folder):
    rows, log = whole(folder).rows(0, 10_000), read(folder)
    assert rows["step"] == log.steps["step"].tolist()
    assert rows["state"] == log.steps["state"].tolist()
    positions = np.concatenate([episode.signals["position"] for episode in log.episodes])
    assert np.allclose(np.array(rows["position"]).T, positions, atol=1e-4)
    assert np.allclose(np.array(rows["applied"]).T, log.steps["applied"], atol=1e-4)
    assert len(rows["scan"][0]) == 36
    assert rows["ages"][1] == [0.03] * len(log.steps)
    spent = [np.cumsum(episode.costs[:, 0]) for episode in log.episodes]
    assert np.allclose(rows["spent"][0], np.concatenate(spent))
    assert rows["predicted"][0][0] == pytest.approx(log.steps["cost_to_go"][0, 0])


def test_episodes_and_stops(folder):
    run, log = whole(folder), read(folder)
    outline = run.outline(0, 0, 0)
    for told, episode in zip(outline["episodes"], log.episodes, strict=True):
        assert told["costs"] == list(episode.result.costs)
        assert told["return"] == episode.result.reward_return == 60.0
        assert (told["ended"], told["text"]) == (episode.result.ended, episode.result.text)
    (stop,) = outline["stops"]
    assert stop["text"] == logs.SENTENCE
    assert stop["row"] == len(log.steps) - 1
    seconds = log.steps["now_s"][stop["row"]] - log.steps["now_s"][stop["first"]]
    assert 5.9 < seconds <= 10.0
    assert "reset releases the stop" in stop["release"]


def test_of_a_long_window_some_rows_are_told(tmp_path):
    logs.record(tmp_path / "run", steps=MOST_ROWS).close()
    rows = whole(tmp_path / "run").rows(0, 10**9)
    assert rows["stride"] == 3
    assert len(rows["t"]) <= MOST_ROWS


def test_evidence_counts_the_logged_episodes(tmp_path):
    begun = Evidence(logs.drive_info().contract, {"outside_corridor": 30.0})
    begun.add((12.0,), True)
    logs.record(tmp_path / "run", logs.drive_info(evidence=begun.to_mapping())).close()
    (cost,) = whole(tmp_path / "run").status()["evidence"]
    assert cost["episodes"] == 3
    assert 0.0 <= cost["keeps"]["share"] <= 1.0
    assert whole(tmp_path / "run").status()["over"]


def test_unknown_limits_leave_out_the_fence_alone(tmp_path):
    logs.record(tmp_path / "run", info()).close()
    run = whole(tmp_path / "run")
    about = run.about()
    assert about["fence"] is None
    assert not about["limits_known"]
    assert len(run.outline(0, 0, 0)["stops"]) == 1


def test_a_stop_between_episodes_is_told(tmp_path):
    log = logs.record(tmp_path / "run")
    log.step(dataclasses.replace(logs.circling(1, 121), step=NO_STEP))
    log.event(9.0, "stop", "device_fault", "the battery is empty")
    log.close()
    outline = whole(tmp_path / "run").outline(0, 0, 0)
    told = {stop["text"]: stop for stop in outline["stops"]}
    assert sorted(told) == sorted(("the battery is empty", logs.SENTENCE))
    assert told["the battery is empty"]["episode"] is None
    assert told["the battery is empty"]["against"] == "robot"


def test_a_run_s_name_tells_it_from_others(tmp_path, monkeypatch):
    """Many a run's folder is called "log"."""
    for place in ("runs/first/log", "runs/monday"):
        logs.record(tmp_path / place, logs.drive_info(run=place.rpartition("/")[2])).close()
    monkeypatch.chdir(tmp_path / "runs" / "first" / "log")
    for path, name in (
        (tmp_path / "runs" / "first" / "log", "first/log"),
        (Path(), "first/log"),
        (Path("log_0.mcap"), "first/log"),
        (tmp_path / "runs" / "monday", "monday"),
    ):
        assert whole(path).about()["name"] == name


def test_a_new_episode_begins_with_nothing_spent(tmp_path):
    """Also before the robot is armed for it, as in the monitor."""
    log = logs.record(tmp_path / "run")
    unarmed = dataclasses.replace(logs.circling(1, 121), step=NO_STEP)
    log.step(unarmed)
    log.event(9.0, "begin_episode")
    log.step(dataclasses.replace(unarmed, episode=2))
    log.close()
    run = whole(tmp_path / "run")
    *_, before, after = run.rows(0, 10_000)["spent"][0]
    assert before == run.outline(0, 0, 0)["episodes"][-1]["costs"][0] > 0.0
    assert after == 0.0


def test_a_stop_while_armed_is_that_of_its_episode(tmp_path):
    log = logs.record(tmp_path / "run")
    log.event(9.0, "stop", "device_fault", "the battery is empty")  # after an armed period
    log.close()
    (stop,) = whole(tmp_path / "run").outline(0, 0, 0)["stops"]
    assert stop["text"] == logs.SENTENCE


def test_a_killed_run_is_not_over(folder):
    path = folder / "run_0.mcap"
    path.write_bytes(path.read_bytes()[:-2000])
    status = whole(folder).status()
    assert not status["over"]
    assert status["tear"] == status["problem"] == ""


def test_no_log_is_an_error_at_once(tmp_path):
    with pytest.raises(LogError, match="should hold one log"):
        WatchedRun(tmp_path)


def strict(run):
    """All that a page may be told, as JSON without NaN."""
    parts = run.about(), run.status(), run.outline(0, 0, 0), run.rows(0, 10**9)
    return json.dumps(parts, allow_nan=False)


def test_a_hostile_log_is_told_as_json(tmp_path):
    logs.hostile(tmp_path / "run").close()
    run = whole(tmp_path / "run")
    assert run.problem == ""
    assert "owned" in strict(run)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"evidence": {}}, "saved evidence: missing contract_hash"),
        ({"episode_cap": {"outside_corridor": 1e308}}, "episode cap should be at least what one"),
        ({"episode_cap": {"other": 1.0}}, "episode cap: unknown cost other"),
    ],
)
def test_settings_that_no_run_has_are_a_sentence_of_the_page(tmp_path, changes, sentence):
    logs.record(tmp_path / "run", logs.drive_info(**changes)).close()
    run = whole(tmp_path / "run")
    assert sentence in run.problem
    assert next(run.messages())["status"]["problem"] == run.problem
    strict(run)


def test_a_log_that_is_deleted_while_it_is_watched_is_told(tmp_path):
    log = logs.record(tmp_path / "run")
    run = whole(tmp_path / "run")
    log.path.unlink()
    assert run.read()
    assert run.problem == f"{log.path}: was deleted while it was read, before its end"
    strict(run)
    log.close()


@pytest.mark.parametrize("seed", range(60))
def test_any_bytes_end_in_a_sentence_or_in_data(folder, seed):
    path = folder / "run_0.mcap"
    path.write_bytes(mutated_bytes(path.read_bytes(), random.Random(seed)))
    run = whole(folder)
    assert "\n" not in run.problem
    assert "the file cannot be shown" not in run.problem  # an error that is not ours
    strict(run)


@pytest.mark.parametrize("code", [*TABLE, "no_such_code"])
def test_every_reason_has_a_sentence_and_what_releases_it(code):
    about = sentences.described(code.replace("{signal}", "yaw_rate"))
    assert about["when"].endswith(".")
    for state in State:
        text = sentences.release(state, code, None)
        assert text.endswith(".") or state is State.ACTIVE
