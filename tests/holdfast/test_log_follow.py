"""A log is read while it grows: what is read in pieces is what is read at once."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from holdfast.errors import LogError
from holdfast.log import writer as recorder
from holdfast.log.reader import Follower, read
from holdfast.log.writer import Recorder
from tests.helpers.data.recordings import info, record_episode, tick


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A log of three episodes in many chunks."""
    monkeypatch.setattr(recorder, "MAX_CHUNK", 3000)
    log = Recorder(tmp_path / "run", info())
    for episode in range(3):
        record_episode(log, episode, 30)
    log.event(9.0, "stop", "interrupted", "by a person")
    log.close()
    return log.path.read_bytes()


def contents(steps):
    """Every field's bytes: between fields there are bytes that nobody wrote."""
    return {name: np.ascontiguousarray(steps[name]).tobytes() for name in steps.dtype.names}


class Heard:
    """All that a follower told."""

    def __init__(self, path):
        self.follower = Follower(path)
        self.steps, self.reasons, self.events, self.results = [], [], [], {}

    def listen(self, most=10_000):
        while (news := self.follower.news(most)) is not None:
            self.steps.append(news.steps)
            self.reasons += news.reasons
            self.events += news.events
            self.results |= news.results

    def check(self, log):
        assert contents(np.concatenate(self.steps)) == contents(log.steps)
        assert tuple(self.reasons) == log.reasons
        assert tuple(self.events) == log.events
        assert self.results == {e.result.episode: e.result for e in log.episodes}
        assert self.follower.info == log.info


@pytest.mark.parametrize("seed", range(5))
def test_a_log_that_grows_by_any_pieces_is_read_as_a_whole(data, tmp_path, seed):
    rng, path = random.Random(seed), tmp_path / "grows_0.mcap"
    with path.open("wb") as file:
        heard, at = Heard(path), 0
        while at < len(data):
            size = rng.choice((1, 3, 50, 1000, 5000))
            file.write(data[at : at + size])
            file.flush()
            at += size
            heard.listen(rng.choice((1, 7, 10_000)))
            assert heard.follower.unfinished or at >= len(data)
    heard.check(read(path))
    assert not heard.follower.unfinished
    assert heard.follower.tear == ""


def test_a_bag_in_parts_is_read_one_after_another(data, tmp_path):
    """`ros2 bag convert` splits a bag; each part is a file of its own."""
    folder = tmp_path / "bag"
    folder.mkdir()
    (folder / "bag_0.mcap").write_bytes(data)
    whole = Recorder(tmp_path / "next", info())
    whole.close()
    (folder / "bag_1.mcap").write_bytes(whole.path.read_bytes())
    heard = Heard(folder)
    heard.listen()
    heard.check(read(folder))
    assert not heard.follower.unfinished


def test_a_killed_run_has_no_end(data, tmp_path):
    path = tmp_path / "torn_0.mcap"
    path.write_bytes(data[: len(data) // 2])
    heard = Heard(path)
    heard.listen()
    assert heard.follower.unfinished
    assert 0 < len(np.concatenate(heard.steps)) < 90


def test_damage_ends_the_log_and_what_follows_is_not_read(data, tmp_path):
    path = tmp_path / "damaged_0.mcap"
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    path.write_bytes(damaged)
    heard = Heard(path)
    heard.listen()
    log = read(path)
    assert heard.follower.tear == log.tear != ""
    assert not heard.follower.unfinished
    assert contents(np.concatenate(heard.steps)) == contents(log.steps)
    heard.listen()
    assert len(np.concatenate(heard.steps)) == len(log.steps)


def test_a_log_that_becomes_shorter_is_refused(data, tmp_path):
    path = tmp_path / "shrinks_0.mcap"
    path.write_bytes(data[: len(data) // 2])
    heard = Heard(path)
    heard.listen()
    path.write_bytes(data[: len(data) // 4])
    with pytest.raises(LogError, match="should only grow"):
        heard.listen()


def test_no_log_is_refused(tmp_path):
    path = tmp_path / "none_0.mcap"
    path.write_bytes(b"no log at all")
    with pytest.raises(LogError, match="not an MCAP file"):
        Heard(path).listen()


def test_a_stop_does_not_wait_for_the_chunk(tmp_path, monkeypatch):
    """Neither a stop that is an event alone, nor one that ends an episode."""
    monkeypatch.setattr(recorder, "CHUNK_S", 60.0)
    log = Recorder(tmp_path / "run", info())
    heard = Heard(tmp_path / "run")
    log.step(tick(0, 0))
    time.sleep(0.3)
    heard.listen()
    assert heard.events == []
    assert not heard.steps or not heard.steps[0].size
    log.event(1.0, "stop", "device_fault", "the battery is empty")
    began_s = time.monotonic()
    while not heard.events:
        heard.listen()
        assert time.monotonic() < began_s + 20.0
    assert heard.events[0].text == "the battery is empty"
    log.close()
