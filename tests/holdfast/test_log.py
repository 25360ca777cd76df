"""The reader: what was recorded comes back, a torn file to its tear, a foreign one not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mcap.writer import CompressionType, IndexType, Writer

from holdfast.errors import LogError
from holdfast.log import format as log_format
from holdfast.log import writer as recorder
from holdfast.log.format import RunInfo
from holdfast.log.reader import Event, read
from holdfast.log.writer import Recorder
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.mended import rewritten
from tests.helpers.data.recordings import info, record_episode, tick


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Two episodes of 6 and 3 actions, with an idle step before each; in many chunks."""
    monkeypatch.setattr(recorder, "MAX_CHUNK", 500)
    log = Recorder(tmp_path / "run", info())
    results = []
    for episode, steps in enumerate((6, 3)):
        idle = tick(episode, 0, proposed=False)
        idle.step = log_format.NO_STEP
        log.step(idle)
        results.append(record_episode(log, episode, steps))
    log.close()
    return log.path, results


def test_episodes_come_back_as_they_were(run):
    path, results = run
    log = read(path.parent, contract=drive_contract())
    assert log.info == info()
    assert not log.torn
    assert log.lost_steps == 0
    assert [episode.result for episode in log.episodes] == results
    for number, episode in enumerate(log.episodes):
        rows = results[number].steps + 1
        wanted = [tick(number, step) for step in range(rows)]
        for name in ("now_s", "log_prob", "observation", "cost_to_go"):
            np.testing.assert_array_equal(
                getattr(episode, name), [getattr(t, name) for t in wanted]
            )
        np.testing.assert_array_equal(episode.proposed, [t.proposal.action for t in wanted])
        np.testing.assert_array_equal(episode.applied, [t.verdict.action for t in wanted])
        np.testing.assert_array_equal(episode.costs, [t.verdict.costs for t in wanted])
        assert episode.state.tolist() == [t.verdict.state for t in wanted]
        assert episode.intervened.tolist() == [t.verdict.intervened for t in wanted]
        assert episode.reasons == tuple(
            tuple(reason.code for reason in t.verdict.reasons) for t in wanted
        )
        for name in ("position", "heading", "tilt"):
            signals = [t.sources["robot"].signals[name] for t in wanted]
            np.testing.assert_array_equal(episode.signals[name], signals)


@pytest.mark.parametrize(("told", "rule"), [({}, "slow"), ({"on_prediction": "stop"}, "stop")])
def test_a_run_of_before_there_was_a_choice_was_slowed(told, rule):
    limits = {"budget": {"episode_coverage": 0.5, **told}}
    again = RunInfo.from_json(info(limits=limits).to_json())
    assert again.limits == {"budget": {"episode_coverage": 0.5, "on_prediction": rule}}


def test_steps_and_events_are_in_order(run):
    log = read(run[0])
    assert log.steps["step"].tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, -1, 0, 1, 2, 3]
    assert log.steps["final"].nonzero()[0].tolist() == [7, 12]
    assert log.steps["sequence"].tolist() == list(range(13))
    assert log.steps["proposal_present"].tolist() == [n not in (0, 8) for n in range(13)]
    assert np.isnan(log.steps["proposed"][8]).all()
    assert log.events == (Event(1, 100.0, "arm", "", ""), Event(9, 1100.0, "arm", "", ""))


def test_a_torn_file_is_read_up_to_the_tear(run):
    path, _ = run
    data = path.read_bytes()
    whole = len(read(path).steps)
    start = data.index(b"clock_offset_s") + 200  # the run's own chunk, then none
    counts = []
    for size in [*range(start, len(data), 211), *range(len(data) - 3000, len(data) - 2900)]:
        path.write_bytes(data[:size])
        log = read(path)
        counts.append(len(log.steps))
        for episode in log.episodes:
            assert len(episode.observation) == episode.result.steps + 1
    assert counts[0] == 0
    assert max(counts) == whole
    path.write_bytes(data[: len(data) * 2 // 3])
    last = read(path).episodes[-1]
    assert last.result.ended == log_format.TORN
    assert last.result.costs == tuple(last.costs.sum(axis=0))


def test_another_contract_is_refused(run):
    other = drive_contract(task="holdfast/DriveGoal-v0")
    told = rf"contract is .*DriveCircle-v0, d = 10\), not {other.hash[:12]}"
    with pytest.raises(LogError, match=told):
        read(run[0], contract=other)


def test_files_that_are_no_logs(tmp_path):
    with pytest.raises(LogError, match="No such file"):
        read(tmp_path / "nothing.mcap")
    with pytest.raises(LogError, match="should hold one log"):
        read(tmp_path)
    path = tmp_path / "x_0.mcap"
    path.write_bytes(b"hello")
    with pytest.raises(LogError, match="not an MCAP file"):
        read(path)
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.finish()
    with pytest.raises(LogError, match="no message says of which run"):
        read(tmp_path)


def same(a, b):
    assert a.steps.tobytes() == b.steps.tobytes()  # NaN is like NaN
    assert (a.reasons, a.events, a.info) == (b.reasons, b.events, b.info)
    assert [e.result for e in a.episodes] == [e.result for e in b.episodes]
    return True


@pytest.mark.parametrize("compression", CompressionType)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunk_size": 700},
        {"use_chunking": False},
        {"enable_crcs": False},
        {"enable_data_crcs": True, "use_chunking": False},
        {"index_types": IndexType.NONE, "use_statistics": False, "use_summary_offsets": False,
         "repeat_channels": False, "repeat_schemas": False},
    ],
)  # fmt: skip
def test_a_log_that_another_tool_wrote_anew(run, tmp_path, compression, options):
    log = read(run[0])
    again = read(rewritten(run[0], tmp_path / "again_0.mcap", compression, **options))
    assert same(log, again)
    assert again.identity == log.identity
    assert not again.torn
    checks = options.get("enable_crcs", True) and options.get("use_chunking", True)
    assert again.checked == (checks or "enable_data_crcs" in options)


@pytest.mark.parametrize("compression", CompressionType)
def test_a_torn_log_that_was_mended(run, tmp_path, compression):
    torn = tmp_path / "torn_0.mcap"
    torn.write_bytes(run[0].read_bytes()[: run[0].stat().st_size * 2 // 3])
    log = read(torn)
    assert "cut short" in log.tear
    mended = read(rewritten(torn, tmp_path / "mended_0.mcap", compression))
    assert not mended.torn
    assert same(log, mended)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "3"}, "log format should be 6, received 3"),
        ({"contract": "{}"}, "metadata is malformed"),
        ({"contract_hash": "0" * 64}, "does not have the hash"),
        ({"seed": "?"}, "metadata is malformed"),
        ({"limits": None}, "metadata lacks 'limits'"),
        ({"limits": "[]"}, r"malformed \(limits should be a mapping"),
        ({"seed": "true"}, r"malformed \(seed should be a whole number, received true\)"),
        ({"seed": "[" * 100_000}, r"malformed \(seed: "),
        ({"contract": "[" * 100_000}, "malformed"),
        ({"episode_cap": '{"outside_corridor": "a"}'}, "outside_corridor should be a number, rec"),
        ({"clock_offset_s": "NaN"}, "clock_offset_s: should be a finite number, received nan"),
        ({"sources": '{"robot": ["tilt"]}'}, r"sources\.robot should be a mapping, received"),
        ({"sources": '{"robot": "position"}'}, r"sources\.robot should be a mapping"),
        ({"sources": '{"robot": {"tilt": 0}}'}, r"sources\.robot\.tilt should be in \[1, 100000\]"),
        ({"sources": '{"robot": {"tilt": 1e9}}'}, r"sources\.robot\.tilt should be a whole"),
        ({"run": 3}, "a JSON object of texts"),
    ],
)
def test_metadata_that_cannot_be_trusted(tmp_path, monkeypatch, changes, sentence):
    text = info().to_json
    monkeypatch.setattr(
        RunInfo,
        "to_json",
        lambda _: json.dumps(
            {k: v for k, v in {**json.loads(text()), **changes}.items() if v is not None}
        ),
    )
    log = Recorder(tmp_path / "run", info())
    log.close()
    with pytest.raises(LogError, match=sentence):
        read(log.path)
