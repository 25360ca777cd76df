"""The reward of a step, from what was measured; and an episode's return in log and replay."""

from __future__ import annotations

import math

import numpy as np
import pytest

from holdfast.contract import DeclaredSignal
from holdfast.log import format as log_format
from holdfast.log.cdr import Layout, pack_strings
from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.log.reader import read
from holdfast.log.writer import Recorder
from holdfast.robot.run.reward import RewardModel
from holdfast.safety_monitor.messages import Reading
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.mended import rewritten
from tests.helpers.data.recordings import info, tick

SCAN = DeclaredSignal("scan", 36, "m", "base", low=0.0, high=3.0)


def model(reward, **changes):
    return RewardModel(drive_contract(reward=reward, **changes))


def seen(**signals):
    return {"robot": Reading(0.0, 1, {name: np.array(v) for name, v in signals.items()})}


def test_the_reward_is_the_expression_s():
    assert model("2 * forward_speed - yaw_rate").step(
        seen(forward_speed=[0.5], yaw_rate=[0.25])
    ) == pytest.approx(0.75)


def test_a_reading_beyond_its_range_counts_as_the_range_s_end():
    """As the costs and the policy take it."""
    far = model("scan.max", signals=(SCAN,)).step(seen(scan=[9.0] * 36))
    assert far == 3.0


def test_signals_come_from_any_source():
    sources = {**seen(forward_speed=[0.5]), "gyro": Reading(0.0, 1, {"yaw_rate": np.ones(1)})}
    assert model("forward_speed + 2 * yaw_rate").step(sources) == 2.5


@pytest.mark.parametrize(
    "sources",
    [
        {},
        seen(yaw_rate=[1.0]),
        seen(forward_speed=[math.nan]),
        seen(forward_speed=[math.inf]),
        seen(forward_speed=[1.0, 2.0]),
        seen(forward_speed=["fast"]),
        seen(forward_speed=[0.0]),
    ],
)
def test_a_reward_that_cannot_be_told_is_nan(sources):
    assert math.isnan(model("1 / forward_speed").step(sources))


def test_a_contract_without_a_reward_pays_nothing():
    assert math.isnan(model(None).step(seen(forward_speed=[1.0])))


# In the log.


def recorded(folder, reward_return, steps=3, **changes):
    """An episode whose end says this return; its signals say x = step, heading = 0.01 step."""
    recorder = Recorder(folder / "run", info(critics=False, limits={}, **changes))
    recorder.event(100.0, "begin_episode")
    for step in range(steps + 1):
        recorder.step(tick(0, step, final=step == steps))
    costs = (float(steps),)
    result = EpisodeResult(0, steps, costs, 0, 0, COMPLETED, reward_return=reward_return)
    recorder.episode(101.0, result)
    recorder.close()
    return recorder.path


@pytest.mark.parametrize("value", [None, 0.0, -12.5])
def test_the_log_keeps_the_return(tmp_path, value):
    (episode,) = read(recorded(tmp_path, value)).episodes
    assert episode.result.reward_return == value


def test_a_log_of_format_5_is_read_without_returns(tmp_path):
    """As the version before wrote it, byte by byte."""
    path = recorded(tmp_path, 12.5)
    new = log_format.layout(log_format.EPISODE_TOPIC, info())
    definition = log_format.EPISODE
    line = next(line for line in definition.splitlines(True) if "reward_return" in line)
    old = Layout(definition.replace(line, ""), {"costs": 1})
    told = info(critics=False, limits={}).to_json()

    def as_before(data):
        if data.endswith(pack_strings([told])):
            older = told.replace('"format": "6"', '"format": "5"')
            assert older != told
            return data[: -len(pack_strings([told]))] + pack_strings([older])
        try:
            if new.unpack_tail(data) != (COMPLETED, "", ""):
                return data
        except ValueError:
            return data
        buffer, fields = old.record()
        (row,) = new.unpack([data])
        for name in old.dtype.names:
            fields[name] = row[name]
        return bytes(buffer) + pack_strings(new.unpack_tail(data))

    log = read(rewritten(path, tmp_path / "old_0.mcap", change=as_before))
    assert log.info.format == "5"
    (episode,) = log.episodes
    assert episode.result == EpisodeResult(0, 3, (3.0,), 0, 0, COMPLETED)
