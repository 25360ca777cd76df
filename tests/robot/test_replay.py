"""Replay of real runs: every verdict again, what differs is found, other limits are tried out."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import yaml
from rich.console import Console

from holdfast.cli import main
from holdfast.errors import ConfigError, LogError
from holdfast.log import format as log_format
from holdfast.log.reader import Event, read
from holdfast.log.writer import Recorder
from holdfast.robot import config as configs
from holdfast.robot.run import replay
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import State
from tests.helpers.data.bundles import write_bundle
from tests.helpers.data.mended import forged, rewritten
from tests.helpers.data.recordings import info, record_episode
from tests.helpers.robots import runs

OPTIONS = ["--episodes", "3", "--explore", "--seed", "5", "--episode-cap", "outside_corridor=20"]
FAMILIARITY = {
    "mean": [0.0] * 9,
    "whitening": np.eye(9).tolist(),
    "reference": 4.0,
    "threshold": 8.0,
    "false_alarm_rate": 0.1,
    "episodes": 10,
    "logged": 0,
}
"""Made up so that the end of a long drive is unlike what it knows."""


def configuration(path, familiarity="never", **blocks):
    """Write the drive robot's file with some of the monitor's blocks changed."""
    data = {"extends": "drive", "familiarity": familiarity, "monitor": blocks}
    path.write_text(yaml.safe_dump(data))
    return path


SLOW = {
    "envelope": {"forward_speed_m_s": {"limited": 0.45, "stopped": 2.0}},
    "ladder": {"trigger_steps": 5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs, alike but for the limits, each on a twin of its own."""
    folder = tmp_path_factory.mktemp("replay")
    options = {"action": (0.5, 0.6), "gain": 0.01, "log_std": -1.5}
    prediction = {"shortfalls": [[0.0, 4.0, 8.0]]}
    entries = {"familiarity": json.dumps(FAMILIARITY), "prediction": json.dumps(prediction)}
    policy = write_bundle(folder / "policy.onnx", entries=entries, **options)
    usual = configuration(folder / "usual.yaml", familiarity="always")
    slow = configuration(folder / "slow.yaml", familiarity="always", **SLOW)
    for name, config in (("run", usual), ("slow", slow)):
        evidence = ["--evidence", str(folder / f"{name}.evidence.json")]
        arguments = [*OPTIONS, "--config", str(config), *evidence]
        (folder / f"{name}-twin").mkdir()
        with (
            runs.twin(folder / f"{name}-twin", lockstep=True) as twin,
            runs.deployment(folder / name, twin.address, policy, *arguments) as run,
        ):
            status, _, err = run.end()
            assert (status, err) == (0, "")
    return folder


@pytest.fixture(scope="module")
def log(folder):
    return read(folder / "run")


def test_the_runs_have_something_to_replay(folder, log):
    """Otherwise the tests below would be empty."""
    codes = {code for reasons in log.reasons for code in reasons}
    assert {"unfamiliar", "episode_cap_spent"} <= codes
    slow = read(folder / "slow")
    assert any("forward_speed_exceeded" in reasons for reasons in slow.reasons)
    assert {State.ACTIVE, State.LIMITED, State.STOPPED} <= set(slow.steps["state"].tolist())


def test_every_verdict_is_as_logged(folder, capsys):
    assert main(["replay", str(folder / "run"), str(folder / "slow" / "slow_0.mcap")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    for line, name in ((first, "run_0.mcap"), (second, "slow_0.mcap")):
        assert f"{name}: 3 episodes" in line
        assert line.endswith("every verdict is as logged")


@pytest.mark.parametrize("received", [0.25, None])
def test_a_return_that_differs_from_the_signals_is_found(log, tmp_path, capsys, received):
    layout = log_format.layout(log_format.EPISODE_TOPIC, log.info)
    result = log.episodes[1].result
    buffer, fields = layout.record()

    def change(data):
        with contextlib.suppress(ValueError):  # other messages do not have this layout
            (row,) = layout.unpack([data])
            if (row["episode"], row["steps"]) == (1, result.steps):
                for name in layout.dtype.names:
                    fields[name] = row[name]
                fields["reward_return"] = np.nan if received is None else received
                return bytes(buffer) + data[layout.dtype.itemsize :]
        return data

    path = rewritten(log.path, tmp_path / "run_0.mcap", change=change)
    assert main(["replay", str(path)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    said = "none" if received is None else "0.25"
    wanted = f"{result.reward_return:.9g}"
    assert first == (
        f"episode 1: its return should be {wanted}, as its signals say, received {said}"
    )
    assert last.endswith("every verdict is as logged")


def altered(log, index, folder, **values):
    """Copy a log with fields of one step changed: as if the monitor of that day had said it."""
    return forged(log, index, folder / "run_0.mcap", **values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"state": State.LIMITED}, "logged: LIMITED, action"),
        ({"applied": [0.25, 0.125]}, "logged: ACTIVE, action [0.25, 0.125]"),
        ({"costs": 0.5}, "logged: ACTIVE"),
        ({"intervened": True}, "logged: ACTIVE"),
    ],
)
def test_a_verdict_that_differs_is_found(log, tmp_path, capsys, values, sentence):
    index = int(np.flatnonzero((log.steps["episode"] == 1) & (log.steps["step"] == 7))[0])
    path = altered(log, index, tmp_path, **values)
    assert main(["replay", str(path)]) == 1
    said = capsys.readouterr().out
    seconds = log.steps["now_s"][index] - log.steps["now_s"][0]
    rows = (log.steps["episode"] == 1).sum()
    first, _ = said.split("\n", 1)
    assert first == (
        f"episode 1: 1 of {rows} periods differ, first at step 7, {seconds:.2f} s into the log"
    )
    assert f"  {sentence}" in said
    assert "  now:    ACTIVE, action [" in said
    assert said.endswith(f"{len(log.steps)} periods: 1 differ, in 1 of the episodes\n")


def test_a_signal_that_differs_changes_all_that_follows_from_it(log, tmp_path):
    """Its observation, and, had the robot been outside of its box, the verdict."""
    index = int(np.flatnonzero((log.steps["episode"] == 1) & (log.steps["step"] == 7))[0])
    signals = log.steps["signals"][index].copy()
    signals[0] = 9.0  # x, m
    again = replay.replay(read(altered(log, index, tmp_path, signals=signals)))
    assert again.state[index] == State.STOPPED
    assert np.flatnonzero(again.differs(log))[0] == index
    # The run would have reset it for the next episode, which then is as it was.
    last = (log.steps["episode"] == 2) & (log.steps["step"] != log_format.NO_STEP)
    assert last.any()
    assert not again.differs(log)[last].any()


def test_a_torn_log_is_replayed_to_its_tear(log, tmp_path, capsys):
    data = log.path.read_bytes()
    path = tmp_path / "run_0.mcap"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert main(["replay", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    torn = read(path)
    assert torn.torn
    assert f"{len(torn.steps)} periods (torn: its last record is cut short): every" in said


def test_other_limits_say_what_a_run_under_them_says(folder, log):
    """Up to and including the first action that differs: after it the robots are elsewhere."""
    limits = configs.load(folder / "slow.yaml").monitor
    supposed, real = replay.replay(log, limits), read(folder / "slow")
    otherwise = np.flatnonzero(supposed.acts_otherwise(log))
    first = int(otherwise[0]) + 1
    assert first > 20
    for name in ("state", "applied", "costs", "intervened", "observation"):
        np.testing.assert_array_equal(getattr(supposed, name)[:first], real.steps[name][:first])
    assert supposed.reasons[:first] == real.reasons[:first]
    assert not np.array_equal(log.steps["state"][:first], real.steps["state"][:first])


def test_other_limits_are_shown_as_a_table(folder, log, capsys):
    assert main(["replay", str(folder / "run"), "--limits", str(folder / "slow.yaml")]) == 0
    said = capsys.readouterr().out
    assert "after it the robot would not have been where the log says it was" in said
    rows = [line.split() for line in said.splitlines()]
    logged = [row for row in rows if "logged" in row[:2]]
    new = [row for row in rows if row[:1] == ["new"]]
    assert len(logged) == len(new) == 3
    supposed = replay.replay(log, configs.load(folder / "slow.yaml").monitor)
    for number, (was, would) in enumerate(zip(logged, new, strict=True)):
        episode = log.episodes[number]
        assert was[0] == str(number)
        assert was[2:5] == [str((episode.state == s).sum()) for s in (4, 3, 2)]
        assert was[5] == str(episode.result.interventions)
        rows = (log.steps["episode"] == number) & (log.steps["step"] != log_format.NO_STEP)
        changed = log.steps["step"][rows & supposed.acts_otherwise(log)]
        assert f"step {changed[0]} forward_speed_exceeded" in " ".join(would)


def test_the_same_limits_change_nothing(folder, log, capsys):
    assert main(["replay", str(folder / "run"), "--limits", str(folder / "usual.yaml")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sum("its end" in line for line in said) == 3


def test_a_box_that_the_robot_starts_outside_of(folder, tmp_path, log):
    """The new limits would not let any episode start."""
    fence = {"keep_in_m": [[8.0, 8.0], [9.0, 8.0], [9.0, 9.0]], "keep_out_m": []}
    limits = configs.load(configuration(tmp_path / "new.yaml", geofence=fence)).monitor
    supposed = replay.replay(log, limits)
    assert (supposed.state == State.STOPPED).all()
    assert not supposed.applied.any()
    assert set(supposed.refusals.values()) == {"outside_geofence"}


def test_what_cannot_be_replayed(folder, log, tmp_path, capsys):
    for arguments, sentence in (
        ([], "which log?"),
        ([str(tmp_path / "none")], "cannot be read"),
        ([str(folder / "run"), "--limits", str(tmp_path / "none.yaml")], "cannot be read"),
    ):
        assert main(["replay", *arguments]) == 1
        said = capsys.readouterr().err
        assert sentence in said
        assert said.count("\n") == 1


def test_a_log_whose_limits_would_be_refused_today_says_so_and_is_replayed(log, capsys):
    """Under a tolerance that today is too wide for a config the robot was on track all the same."""
    tracking = {**log.info.limits["tracking"], "tracking_error": {"forward_speed": 0.6}}
    wide = {**log.info.limits, "tracking": tracking}
    log = dataclasses.replace(log, info=dataclasses.replace(log.info, limits=wide))
    again = replay.replay(log)
    assert not again.differs(log).any()
    (complaint,) = again.complaints
    assert complaint.startswith("monitor limits.tracking: tracking_error.forward_speed 0.6 should")
    assert replay._compare(log, again, Console(soft_wrap=True))
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{log.path}: its limits would be refused today ({complaint})"
    assert second.endswith("every verdict is as logged")
    with pytest.raises(ConfigError, match="cannot be replayed"):
        replay.replay(log, Limits.from_mapping(wide))


def test_a_log_under_limits_of_another_kind(tmp_path):
    recorder = Recorder(tmp_path / "run", info())
    record_episode(recorder, 0, 3)
    recorder.close()
    with pytest.raises(
        LogError, match=r"run_0\.mcap: cannot be replayed \(monitor limits: unknown"
    ):
        replay.command((tmp_path / "run",))


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (["dance"], "its event 'dance' is not known"),
        (["reset", "arm", "begin_episode"], "an episode begins while the one before it goes on"),
    ],
)
def test_events_that_no_run_logs_so(log, tmp_path, events, sentence):
    """The run's own start, with these events put after some of its periods."""
    start = next(event.before for event in log.events if event.name == "arm" and not event.code)
    made = [Event(start, log.steps["now_s"][start - 1], name, "", "") for name in events]
    kept = tuple(event for event in log.events if event.before < start)
    broken = dataclasses.replace(log, events=(*kept, *made), paths=(tmp_path / "run_0.mcap",))
    with pytest.raises(LogError, match=f"cannot be replayed \\({sentence}"):
        replay.replay(broken)


def test_limits_that_contradict_the_contract(folder, log, tmp_path):
    gap = configuration(tmp_path / "new.yaml", freshness={"max_step_gap_s": 0.01})
    with pytest.raises(ConfigError, match=r"cannot be replayed \(monitor limits\.fresh.*gap"):
        replay.command((folder / "run",), gap)
    data = yaml.safe_load(gap.read_text()) | {"robot": "walker"}
    gap.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="configuration is of robot 'walker'"):
        replay.command((folder / "run",), gap)


def test_a_log_in_which_nothing_is_read_is_no_agreement(tmp_path, capsys):
    Recorder(tmp_path / "run", info()).close()
    assert main(["replay", str(tmp_path / "run")]) == 1
    assert "holds no period, so there is nothing to replay" in capsys.readouterr().err


def test_log_probabilities_are_those_of_the_bundle_that_ran(folder, log, tmp_path, capsys):
    arguments = ["--policy", str(folder / "policy.onnx")]
    assert main(["replay", str(folder / "run"), *arguments]) == 0
    sampled = sum(int(np.isfinite(episode.log_prob).sum()) for episode in log.episodes)
    assert sampled > 300
    assert f"{sampled} log-probabilities are those of" in capsys.readouterr().out
    index = int(np.flatnonzero((log.steps["episode"] == 1) & (log.steps["step"] == 7))[0])
    wrong = float(log.steps["log_prob"][index]) + 0.01
    path = altered(log, index, tmp_path, log_prob=wrong)
    assert main(["replay", str(path), *arguments]) == 1
    err = capsys.readouterr().err
    assert "episode 1, step 7: log_prob should be" in err
    assert err.count("\n") == 1
    other = write_bundle(tmp_path / "other.onnx", seed=4)
    assert main(["replay", str(folder / "run"), "--policy", str(other)]) == 1
    assert "was made by the bundle" in capsys.readouterr().err


def test_a_log_with_lost_steps_is_refused(log, tmp_path):
    """What the monitor was told in between is not known."""
    last = altered(log, len(log.steps) - 1, tmp_path, sequence=len(log.steps) + 4)
    with pytest.raises(LogError, match="5 periods were not logged"):
        replay.replay(read(last))
