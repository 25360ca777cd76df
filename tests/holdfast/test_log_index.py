"""`holdfast logs`: what it says of runs, what it leaves out, and that it needs no more memory."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.log import reader
from holdfast.log.format import STOPPED, EpisodeResult
from holdfast.log.index import LeftOut, Run, index, logs_in
from holdfast.log.writer import Recorder
from tests.helpers.data.mended import rewritten
from tests.helpers.data.recordings import info, record_episode, tick
from tests.helpers.web.logs import hostile


def record(folder, steps=(6, 4), **changes):
    """A run whose every start is another, as it is on a robot."""
    recorder = Recorder(folder, info(run=folder.name, **changes))
    for episode, count in enumerate(steps):
        record_episode(recorder, episode, count)
    recorder.close()
    return folder / f"{folder.name}_0.mcap"


def record_stop(folder, steps, gap_after=None):
    """A run with one episode, which is stopped in the end."""
    recorder = Recorder(folder, info(run=folder.name))
    for step in range(steps + 1):
        one = tick(0, step, final=step == steps)
        late_s = 3.0 if gap_after is not None and step > gap_after else 0.0
        recorder.step(dataclasses.replace(one, now_s=one.now_s + late_s))
    result = EpisodeResult(0, steps, (float(steps),), 2, 1, STOPPED, "tilt_exceeded", "it tilts")
    recorder.episode(200.0, result)
    recorder.close()
    return folder / f"{folder.name}_0.mcap"


def found(*places, policy=""):
    """Return the runs by name, and why logs were left out."""
    each = list(index(logs_in(places), policy))
    runs = {one.run: one for one in each if isinstance(one, Run)}
    return runs, [one.why for one in each if isinstance(one, LeftOut)]


def test_what_is_said_of_a_run(tmp_path):
    path = record(tmp_path / "a" / "deep" / "run")
    runs, left_out = found(tmp_path)
    run = runs["run"]
    assert left_out == []
    assert (run.path, run.robot, run.policy) == (str(path), "drive", "b" * 64)
    assert run.contract == info().contract.hash
    assert (len(run.episodes), run.completed, run.stopped, run.steps) == (2, 2, 0, 10)
    assert run.cost_mean == {"outside_corridor": 5.0}
    assert (run.gaps, run.longest_gap_s, run.lost_steps, run.stops) == (0, 0.0, 0, ())
    assert run.return_mean is None
    assert run.started_at[:4] == "2023"  # as the clock of the recordings says
    assert run.duration_s == pytest.approx(1000.0 + 0.05 * 4)


def test_the_last_ten_seconds_before_a_stop(tmp_path):
    record_stop(tmp_path / "run", 245)
    (stop,) = found(tmp_path)[0]["run"].stops
    assert (stop.episode, stop.code, stop.text) == (0, "tilt_exceeded", "it tilts")
    np.testing.assert_allclose(stop.before_s, -10.0 + 0.05 * np.arange(201), atol=1e-9)
    np.testing.assert_allclose(np.array(stop.applied)[:, 0], 0.001 * np.arange(45, 246))
    np.testing.assert_allclose(np.array(stop.signals["position"])[:, 0], np.arange(45, 246))
    assert stop.reasons[-1] == ["slowdown_budget"] * 2
    assert (stop.state[0], stop.state[-1]) == ("ACTIVE", "LIMITED")


def test_a_short_episode_has_less_than_ten_seconds(tmp_path):
    record_stop(tmp_path / "run", 3)
    (stop,) = found(tmp_path)[0]["run"].stops
    assert len(stop.before_s) == 4


def test_gaps_in_time(tmp_path):
    record_stop(tmp_path / "run", 20, gap_after=7)
    run = found(tmp_path)[0]["run"]
    assert run.gaps == 1
    assert run.longest_gap_s == pytest.approx(3.05)


def cut(path, target, share=0.7):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return target


def test_what_is_left_out_and_why(tmp_path):
    good = record(tmp_path / "a" / "run")
    torn = cut(good, tmp_path / "b" / "torn_0.mcap")
    copy = shutil.copy(good, tmp_path / "copy_0.mcap")
    named = rewritten(
        good,
        tmp_path / "named_0.mcap",
        change=lambda d: d.replace(b'"run": "run"', b'"run": "ruN"'),
    )
    foreign = tmp_path / "c" / "foreign_0.mcap"
    foreign.parent.mkdir()
    foreign.write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    empty = tmp_path / "d" / "empty_0.mcap"
    empty.parent.mkdir()
    empty.touch()
    other = record(tmp_path / "e" / "other", steps=(5,), bundle_hash="c" * 64)
    runs, left_out = found(tmp_path, policy="b" * 12)
    assert list(runs) == ["run"]
    said = "\n".join(left_out)
    assert f"{torn}: is torn" in said
    for again in (copy, named):
        assert f"{good.parent} and {again} are the same run" in said
    assert f"{foreign}: " in said
    assert f"{empty}: " in said
    assert f"{other}: is of another policy (cccccccccccc, not bbbbbbbbbbbb)" in said
    assert len(left_out) == 6
    assert set(found(tmp_path)[0]) == {"run", "other"}


@pytest.mark.parametrize("names", [("a_torn", "b_mended"), ("b_torn", "a_mended")])
def test_a_torn_log_beside_its_mended_copy(tmp_path, names):
    """The copy is in the index, and the torn one is left out, whichever is read first."""
    torn, mended = (tmp_path / name / "run_0.mcap" for name in names)
    cut(record(tmp_path / "elsewhere" / "run"), torn)
    mended.parent.mkdir()
    rewritten(torn, mended)
    shutil.rmtree(tmp_path / "elsewhere")
    assert reader.read(torn).torn
    runs, (why,) = found(tmp_path)
    assert runs["run"].path == str(mended)
    assert why.startswith(f"{torn}: is torn")


def test_a_bag_of_two_files_is_one_log(tmp_path):
    first = record(tmp_path / "x" / "run", steps=(6,))
    (tmp_path / "bag").mkdir()
    shutil.copy(first, tmp_path / "bag" / "run_0.mcap")
    assert logs_in([tmp_path / "bag"]) == [tmp_path / "bag"]
    shutil.copy(first, tmp_path / "bag" / "other_0.mcap")
    assert [path.name for path in logs_in([tmp_path / "bag"])] == ["other_0.mcap", "run_0.mcap"]
    assert logs_in([first, tmp_path / "x"]) == [tmp_path / "x" / "run"]


def test_the_command(tmp_path, capsys):
    record(tmp_path / "logs" / "one")
    record_stop(tmp_path / "logs" / "two", 20)
    cut(tmp_path / "logs" / "two" / "two_0.mcap", tmp_path / "logs" / "torn" / "two_0.mcap", 0.5)
    out = tmp_path / "index.jsonl"
    assert main(["logs", str(tmp_path / "logs"), "--json-out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "outside_corridor 5" in said
    assert "2 runs, 1 log left out" in said
    one, torn, two = map(json.loads, out.read_text().splitlines())
    assert one["run"]["steps"] == 10
    assert "is torn" in torn["left_out"]["why"]
    assert two["run"]["stops"][0]["code"] == "tilt_exceeded"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        ([".", "--policy", "abc"], "policy should be the first 8 or more hex digits"),
        ([".", "--json-out", "."], "cannot be written"),
    ],
)
def test_requests_that_cannot_be(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["logs", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_numbers_that_json_does_not_have(tmp_path):
    recorder = Recorder(tmp_path / "run", info(run="run"))
    one = tick(0, 0, final=True, proposed=False)
    recorder.step(one)
    recorder.episode(200.0, EpisodeResult(0, 0, (0.0,), 0, 0, STOPPED, "stale", ""))
    recorder.close()
    out = tmp_path / "index.jsonl"
    assert main(["logs", str(tmp_path), "--json-out", str(out)]) == 0
    assert json.loads(out.read_text())["run"]["stops"][0]["proposed"] == [[None, None]]


def test_parquet(tmp_path, monkeypatch, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    record(tmp_path / "logs" / "one")
    record_stop(tmp_path / "logs" / "two", 20)
    out = tmp_path / "episodes\udcff.parquet"  # a name of bytes that are no characters
    assert main(["logs", str(tmp_path / "logs"), "--parquet", str(out)]) == 0
    with out.open("rb") as file:
        rows = parquet.read_table(file).to_pylist()
    assert [(row["run"], row["episode"], row["steps"]) for row in rows] == [
        ("one", 0, 6),
        ("one", 1, 4),
        ("two", 0, 20),
    ]
    assert rows[2]["costs"] == [("outside_corridor", 20.0)]
    assert rows[2]["code"] == "tilt_exceeded"


def test_without_the_package(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    record(tmp_path / "run")
    out = tmp_path / "episodes.parquet"
    assert main(["logs", str(tmp_path), "--parquet", str(out)]) == 1
    wanted = "logs needs the Python package 'pyarrow', which is not installed: pip install"
    assert wanted in capsys.readouterr().err
    assert not list(tmp_path.glob("episodes.parquet*"))


MEASURE = """
import resource, sys
from pathlib import Path
from holdfast.log.index import Run, index, logs_in
least = None
for number, found in enumerate(index(logs_in([Path(sys.argv[1])]))):
    assert isinstance(found, Run), found
    if number == 20:
        least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(number + 1, least, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_thousand_runs_in_constant_memory(tmp_path):
    for number in range(1000):
        recorder = Recorder(tmp_path / f"r{number:03d}", info(run=f"r{number:03d}"))
        for step in range(101):
            one = tick(0, step, final=step == 100)
            recorder.step(dataclasses.replace(one, now_s=one.now_s + number))
        result = EpisodeResult(0, 100, (100.0,), 0, 0, STOPPED, "tilt_exceeded")
        recorder.episode(200.0 + number, result)
        recorder.close()
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, least, most = map(int, ended.stdout.split())
    assert count == 1000
    assert most - least < 8 * 1024, (least, most)  # KiB


def test_a_log_with_a_state_that_there_is_not_is_left_out(tmp_path, capsys):
    hostile(tmp_path / "a").close()
    record(tmp_path / "b")
    assert main(["logs", str(tmp_path), "--json-out", str(tmp_path / "index.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "1 run, 1 log left out" in said
    assert "a_0.mcap: episode 0: state should be in 0 to" in said
    assert len((tmp_path / "index.jsonl").read_text().splitlines()) == 2
