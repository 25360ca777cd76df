"""The reader of logged episodes: what an episode holds, each run once, and in constant memory."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType

from holdfast.errors import LogError
from holdfast.log import audit, reader
from holdfast.log.episodes import episodes, runs
from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult
from holdfast.log.writer import Recorder
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.mended import forged, rewritten
from tests.helpers.data.recordings import info, record_episode, tick

DRIVE = resolve("DriveCircle-v0").make()
RUN_NAME = "run-000"


def record(folder: Path, steps: tuple[int, ...] = (6,)) -> Path:
    contract = drive_contract(episode_steps=max(steps))
    recorder = Recorder(folder, info(run=RUN_NAME, contract=contract))
    for episode, count in enumerate(steps):
        code = "" if count == contract.episode_steps else "interrupted"
        record_episode(recorder, episode, count, code=code)
    recorder.close()
    return folder / f"{folder.name}_0.mcap"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("log") / "run", (6, 4))


def renamed(run: Path, target: Path, name: str) -> Path:
    """Copy a log under another run's name, of the same length."""
    assert len(name) == len(RUN_NAME)
    return rewritten(run, target, change=lambda d: d.replace(RUN_NAME.encode(), name.encode()))


def test_an_episode_s_transitions(run):
    """What was recorded at step k: see recordings.tick."""
    (log,) = runs([run])
    first, second = episodes(log, DRIVE)
    assert (len(first), len(second)) == (6, 4)
    assert first.observation.shape == (7, 9)
    np.testing.assert_allclose(first.proposed[:, 1], 0.01 * np.arange(6))
    np.testing.assert_allclose(first.applied[:, 0], 0.001 * np.arange(6))
    np.testing.assert_allclose(first.log_prob, -1.0 - np.arange(6))
    np.testing.assert_allclose(first.costs[:, 0], 1.0)
    np.testing.assert_allclose(first.cost_to_go[:, 0], 2.0 * np.arange(7))
    np.testing.assert_allclose(first.signals["position"][:, 0], np.arange(1, 7))
    assert first.intervened.tolist() == [True, False, False, False, False, True]
    assert [len(codes) for codes in first.reasons] == [0, 1, 2, 0, 1, 2, 0]
    assert first.completed
    assert first.obeyed
    assert first.result.costs == (6.0,)
    np.testing.assert_array_equal(first.reward, DRIVE.reward(first.signals))


def test_an_episode_ends_before_a_reading_that_is_not_finite(run, tmp_path):
    log = reader.read(run)
    signals = log.steps[3]["signals"].copy()
    signals[0] = np.nan
    forged(log, 3, tmp_path / "nan.mcap", signals=signals)
    first, second = episodes(reader.read(tmp_path / "nan.mcap"), DRIVE)
    assert (len(first), first.completed) == (2, False)
    assert np.isfinite(first.reward).all()
    assert (len(second), second.completed) == (4, False)


def with_position(step: np.ndarray, x: float) -> np.ndarray:
    """The signals of a step, whose first is the position, at another place."""
    signals = step["signals"].copy()
    signals[0] = x
    return signals


def test_an_observation_that_its_signals_contradict_is_refused(run, tmp_path):
    """Within a rounding of float32 it is no other."""
    log = reader.read(run)
    for x, refused in ((3.0 + 1e-6, False), (3.1, True)):
        changed = tmp_path / f"{x}.mcap"
        forged(log, 3, changed, signals=with_position(log.steps[3], x))
        found = episodes(reader.read(changed), DRIVE)
        if not refused:
            assert len(next(found)) == 6
            continue
        with pytest.raises(
            LogError, match=r"step 3: 'position' of the obs.* be 3\.1, .* received 3$"
        ):
            next(found)


def test_time_that_goes_back_is_refused(run, tmp_path):
    log = reader.read(run)
    forged(log, 3, tmp_path / "back.mcap", now_s=100.1)  # as the step before
    with pytest.raises(LogError, match=r"step 3: its time should be after .* received 100\.1 s"):
        next(episodes(reader.read(tmp_path / "back.mcap"), DRIVE))


@pytest.mark.parametrize(("factor", "refused"), [(1.2, False), (2.0, True), (0.5, True)])
def test_periods_are_the_contract_s(tmp_path, factor, refused):
    recorder = Recorder(tmp_path / "run", info())
    for step in range(6):
        one = tick(0, step, final=step == 5)
        recorder.step(dataclasses.replace(one, now_s=100.0 + factor * 0.05 * step))
    recorder.close()
    (log,) = runs([tmp_path / "run"])
    if refused:
        with pytest.raises(LogError, match=r"a period should last 0\.05 s, as the contract says"):
            next(episodes(log, DRIVE))
    else:
        assert len(next(episodes(log, DRIVE))) == 5


@pytest.mark.parametrize(("step", "refused"), [(3, True), (4, False)])
def test_the_largest_cost_is_billed_for_a_reason(run, tmp_path, step, refused):
    """Step 4 has a reason, and step 3 has none; at 0 both would cost nothing."""
    log = reader.read(run)
    forged(log, step, tmp_path / "billed.mcap", signals=with_position(log.steps[step], 0.0))
    changed = reader.read(tmp_path / "billed.mcap")
    if refused:
        with pytest.raises(LogError, match=r"step 3: cost 'outside_corridor' should be 0"):
            audit.billed(changed, changed.episodes[0])
    else:
        assert audit.billed(changed, changed.episodes[0])[:, 0].tolist() == [1.0] * 6


def cut(run: Path, target: Path, share: float) -> Path:
    content = run.read_bytes()
    target.write_bytes(content[: int(share * len(content))])
    return target


@pytest.mark.parametrize(
    "copy",
    [
        lambda run, target: run,
        shutil.copy,
        lambda run, target: rewritten(run, target, CompressionType.ZSTD),
        lambda run, target: cut(run, target, 0.8),
        lambda run, target: rewritten(cut(run, target.with_suffix(".cut"), 0.8), target),
        lambda run, target: rewritten(run, target, keep=lambda d: RUN_NAME.encode() in d),
        lambda run, target: renamed(run, target, "run-001"),
    ],
    ids=["again", "copy", "packed", "torn", "mended", "only its start", "under another name"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_one_run_is_given_once(run, tmp_path, copy, turned):
    other = Path(copy(run, tmp_path / "other_0.mcap"))
    pair = [other, run] if turned else [run, other]
    with pytest.raises(LogError) as caught:
        list(runs(pair))
    assert str(caught.value) == f"{pair[0]} and {pair[1]} are the same run; give it once"


def test_a_torn_copy_beside_a_mended_one_is_the_same_run(run, tmp_path):
    torn = cut(run, tmp_path / "torn.mcap", 0.7)
    mended = rewritten(torn, tmp_path / "mended.mcap")
    assert reader.read(torn).torn
    assert not reader.read(mended).torn
    with pytest.raises(LogError, match=r"torn\.mcap and .*mended\.mcap are the same run"):
        list(runs([torn, mended]))


def test_runs_that_only_share_a_name_or_hold_nothing_are_two(tmp_path):
    one, other = record(tmp_path / "a" / "log"), tmp_path / "b" / "log"
    recorder = Recorder(other, info(run=RUN_NAME), now_s=0.05)
    record_episode(recorder, 0, 5)
    recorder.close()
    empty = []
    for name in ("run-001", "run-002"):
        Recorder(tmp_path / name, info(run=name)).close()
        empty.append(tmp_path / name)
    assert len(list(runs([one, other, *empty]))) == 4


MEASURE = """
import re, sys
from pathlib import Path
from holdfast.log.episodes import episodes, runs
from holdfast.sim.registry import resolve
task, kept = resolve("DriveCircle-v0").make(), []
for run in runs([Path(path) for path in sys.argv[2:]]):
    count = sum(1 for _ in episodes(run, task))
    assert count == len(run.episodes) > 0
    if sys.argv[1] == "kept":
        kept.append(run)
# Not ru_maxrss: it begins with the peak of the process that forked this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def peak_mib(how: str, paths: list[Path]) -> float:
    """Return the peak resident memory of a process that reads all episodes of logs, MiB."""
    line = [sys.executable, "-c", MEASURE, how, *map(str, paths)]
    return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def test_memory_does_not_grow_with_the_number_of_runs(tmp_path):
    """Copies of a run with names and first periods of their own: 3 of them, and 30."""
    run = record(tmp_path / "run", (250,) * 12)
    log = reader.read(run)
    copies = []
    for number in range(30):
        one = forged(log, 0, tmp_path / "one.mcap", now_s=99.0 + number / 1000.0)
        copies.append(renamed(one, tmp_path / f"copy_{number}.mcap", f"run-{number:03}"))
    few, many, kept = (
        peak_mib(how, paths)
        for how, paths in (("read", copies[:3]), ("read", copies), ("kept", copies))
    )
    size_mib = log.steps.nbytes / 2**20
    print(f"{few:.0f} MiB for 3 runs, {many:.0f} for 30, {kept:.0f} kept; {size_mib:.1f} each")
    assert kept - few > 15.0 * size_mib  # so the measure sees runs that are kept
    assert many - few < 0.25 * (kept - few)


def ended(folder, **changes):
    """Record two steps of a contract of six, whose end is as a run writes it but for changes."""
    recorder = Recorder(folder, info(contract=drive_contract(episode_steps=6)))
    for step in range(3):
        recorder.step(tick(0, step, final=step == 2))
    end = EpisodeResult(0, 2, (2.0,), 1, 0, STOPPED, "interrupted")
    recorder.episode(200.0, dataclasses.replace(end, **changes))
    recorder.close()
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ended": "won"}, "ended should be completed or stopped, received 'won'"),
        ({"interventions": 4}, "interventions should be at most 3, received 4"),
        ({"deadline_misses": 5}, "deadline_misses should be at most 4, received 5"),
        ({"steps": 7}, "steps should be at most 6, received 7"),
        ({"costs": (-1.0,)}, "costs should be at least 0, received -1"),
    ],
)
def test_an_end_that_cannot_be_is_read_by_nothing(tmp_path, changes, said):
    with pytest.raises(LogError, match=f"run_0.mcap: .*episode 0: {said}"):
        reader.read(ended(tmp_path / "run", **changes))


def test_more_steps_than_the_contract_has_are_read_by_nothing(tmp_path):
    recorder = Recorder(tmp_path / "run", info(contract=drive_contract(episode_steps=5)))
    record_episode(recorder, 0, 6)
    recorder.close()
    with pytest.raises(LogError, match="episode 0: steps should be at most 5, received 6"):
        reader.read(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ended": COMPLETED, "code": ""}, "should have 6 steps to be completed, .* received 2"),
        ({"costs": (0.5,)}, "its outside_corridor should be 2, as its steps say, received 0.5"),
        ({"costs": (float("nan"),)}, "its outside_corridor should be 2, .* received nan"),
    ],
)
def test_an_end_that_the_steps_contradict_teaches_nothing(tmp_path, changes, said):
    (log,) = runs([ended(tmp_path / "run", **changes)])
    with pytest.raises(LogError, match=f"run_0.mcap: episode 0: {said}"):
        list(episodes(log, DRIVE))


def test_the_costs_of_a_log_that_lost_periods_are_not_compared(tmp_path):
    (log,) = runs([ended(tmp_path / "run", costs=(0.5,))])
    (episode,) = log.episodes
    audit.require_result(dataclasses.replace(log, lost_steps=1), episode)
