"""The recorder: nothing blocks, nothing flushed is lost, and nothing goes missing in silence."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from holdfast.contract import ActionChannel
from holdfast.errors import LogError
from holdfast.log import format as log_format
from holdfast.log import writer as recorder
from holdfast.log.reader import read
from holdfast.log.writer import Recorder
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.recordings import info, record_episode, tick

ROOT = Path(__file__).resolve().parents[2]


def test_the_file_is_named_as_rosbag2_names_it(tmp_path):
    log = Recorder(tmp_path / "monday", info())
    log.close()
    assert log.path == tmp_path / "monday" / "monday_0.mcap"


def test_mcaps_own_reader_opens_it(tmp_path):
    log = Recorder(tmp_path / "run", info(), 100.0)
    record_episode(log, 0, steps=7)
    log.close()
    with log.path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        counts = {
            channel.topic: summary.statistics.channel_message_counts[number]
            for number, channel in summary.channels.items()
        }
        assert reader.get_header().profile == "ros2"
        stamps = [message.log_time for _, _, message in reader.iter_messages()]
    assert counts == {
        "holdfast/run": 1,
        "holdfast/step": 8,
        "holdfast/event": 1,
        "holdfast/episode": 1,
        "odom": 8,
        "cmd_vel_proposed": 8,
        "cmd_vel": 8,
    }
    assert {schema.encoding for schema in summary.schemas.values()} == {"ros2msg"}
    assert {channel.message_encoding for channel in summary.channels.values()} == {"cdr"}
    assert [chunk.compression for chunk in summary.chunk_indexes] == ["", ""]
    assert stamps[0] == min(stamps)
    assert stamps[0] == 1_700_000_000_000_000_000 + 100_000_000_000


def test_records_reach_the_file_while_the_run_goes_on(tmp_path):
    log = Recorder(tmp_path / "run", info())
    assert read(log.path).info == info()  # at once
    record_episode(log, 0, steps=20)
    deadline_s = time.monotonic() + 5.0
    while len(read(log.path).steps) < 21 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    found = read(log.path)
    assert len(found.steps) == 21
    assert found.torn
    log.close()
    assert not read(log.path).torn


def test_a_log_is_never_overwritten(tmp_path):
    Recorder(tmp_path / "run", info()).close()
    before = (tmp_path / "run" / "run_0.mcap").read_bytes()
    with pytest.raises(LogError, match="never overwritten"):
        Recorder(tmp_path / "run", info())
    assert (tmp_path / "run" / "run_0.mcap").read_bytes() == before


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match=r"cannot be written \(Not a directory\)"):
        Recorder(tmp_path / "file" / "run", info())


def test_overflow_is_counted_and_seen_by_the_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_WAITING", 40)
    monkeypatch.setattr(recorder, "CHUNK_S", 0.5)  # time to fill it before the writer looks
    log = Recorder(tmp_path / "run", info())
    for step in range(30):  # four records each
        log.step(tick(0, step))
    assert log.lost == 30 * 4 - 40
    while log._waiting:
        time.sleep(0.01)
    log.step(tick(0, 30))
    log.close()
    found = read(log.path)
    assert found.lost_steps == 20
    assert len(found.steps) == 11
    (episode,) = found.episodes
    assert len(episode.observation) == 10  # rows before the hole
    assert episode.result.ended == log_format.TORN


def _run(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    code = "import sys, holdfast; sys.path.insert(0, sys.argv.pop(1))\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", code, str(ROOT), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_a_full_disk_is_an_error_not_a_silence(tmp_path):
    """With a limit on the file's size, where a write fails as on a full disk."""
    code = """
        import resource, sys, time
        from pathlib import Path
        from tests.helpers.data.recordings import info, tick
        from holdfast.errors import LogError
        from holdfast.log.writer import Recorder
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        log = Recorder(Path(sys.argv[1]), info())
        try:
            for step in range(100_000):
                log.step(tick(0, step))
                time.sleep(0.001)
        except LogError as error:
            print("step:", error)
        try:
            log.close()
        except LogError as error:
            print("close:", error)
    """
    process = _run(code, str(tmp_path / "run"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = output.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["step", "close"]
    assert all("cannot be written (File too large)" in line for line in lines)
    found = read(tmp_path / "run")
    assert found.torn
    assert len(found.steps) > 20


def test_kill_9_loses_less_than_half_a_second(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from tests.helpers.data.recordings import info, tick
        from holdfast.log.writer import Recorder
        log = Recorder(Path(sys.argv[1]), info())
        for step in range(1_000_000):
            log.step(tick(0, step))
            print(step, time.monotonic(), flush=True)
            time.sleep(0.002)
    """
    process = _run(code, str(tmp_path / "run"))
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    killed_s = time.monotonic()
    said += process.stdout.readlines()
    process.wait()
    appended = {int(step): float(at) for step, at in (line.split() for line in said if line[-1:])}
    long_ago = [step for step, at in appended.items() if at < killed_s - 0.5]
    found = read(tmp_path / "run")
    assert found.torn
    assert len(long_ago) > 10
    assert found.steps["step"].tolist() == list(range(len(found.steps)))
    assert len(found.steps) > max(long_ago)


def test_kill_9_as_soon_as_the_file_is_made_leaves_a_log(tmp_path):
    code = """
        import os, signal, sys
        from pathlib import Path
        from tests.helpers.data.recordings import info
        from holdfast.log.writer import Recorder
        Recorder(Path(sys.argv[1]), info())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert _run(code, str(tmp_path / "run")).wait(timeout=30) == -signal.SIGKILL
    found = read(tmp_path / "run")
    assert found.info == info()
    assert found.torn
    assert not found.episodes


def test_the_recorder_outlives_no_process(tmp_path):
    """A run that ends without closing its log ends all the same."""
    code = """
        import sys
        from pathlib import Path
        from tests.helpers.data.recordings import info, tick
        from holdfast.log.writer import Recorder
        Recorder(Path(sys.argv[1]), info()).step(tick(0, 0))
    """
    assert _run(code, str(tmp_path / "run")).wait(timeout=30) == 0
    assert os.listdir(tmp_path / "run") == ["run_0.mcap"]


def test_odometry_and_commands_say_what_the_step_says(tmp_path):
    log = Recorder(tmp_path / "run", info())
    log.step(tick(0, 3))
    log.close()
    step = read(log.path).steps[0]
    with log.path.open("rb") as file:
        data = {channel.topic: m.data for _, channel, m in make_reader(file).iter_messages()}

    def fields(topic):
        return log_format.layout(topic, info()).unpack([data[topic]])[0]

    odom = fields("odom")
    assert [odom["pose.pose.position.x"], odom["pose.pose.position.y"]] == [3.0, -3.0]
    yaw = 2.0 * np.arctan2(odom["pose.pose.orientation.z"], odom["pose.pose.orientation.w"])
    np.testing.assert_allclose(yaw, step["signals"][2])
    for topic, name in (("cmd_vel_proposed", "proposed"), ("cmd_vel", "applied")):
        twist = fields(topic)
        assert [twist["twist.linear.x"], twist["twist.angular.z"]] == step[name].tolist()
    assert odom["header.stamp.sec"] == step["stamp.sec"]


def test_a_speed_to_the_side_is_in_odometry_and_commands(tmp_path):
    sideways = ActionChannel("lateral_speed", "m/s", -1.0, 1.0, 4.0)
    contract = drive_contract(action=(drive_contract().action[0], sideways))
    sources = {"robot": {"position": 2, "heading": 1, "lateral_speed": 1}}
    said = tick(0, 3)
    signals = {**said.sources["robot"].signals, "lateral_speed": np.array([-0.4])}
    reading = dataclasses.replace(said.sources["robot"], signals=signals)
    run = info(contract=contract, sources=sources)
    log = Recorder(tmp_path / "run", run)
    log.step(dataclasses.replace(said, sources={"robot": reading}))
    log.close()
    step = read(log.path).steps[0]
    with log.path.open("rb") as file:
        data = {channel.topic: m.data for _, channel, m in make_reader(file).iter_messages()}
    (odom,) = log_format.layout("odom", run).unpack([data["odom"]])
    assert (odom["twist.twist.linear.x"], odom["twist.twist.linear.y"]) == (0.0, -0.4)
    for topic, name in (("cmd_vel_proposed", "proposed"), ("cmd_vel", "applied")):
        (twist,) = log_format.layout(topic, run).unpack([data[topic]])
        assert [twist["twist.linear.x"], twist["twist.linear.y"]] == step[name].tolist()
