"""A recurrent policy on the drive twin: what it remembers begins anew with each episode."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.bundle import reader
from holdfast.cli import main
from holdfast.errors import LogError
from holdfast.log.audit import require_log_prob
from tests.helpers.data.foreign import contract
from tests.helpers.data.remembering import exported
from tests.helpers.robots import runs

STEPS = 40


@pytest.fixture(scope="module", params=["mean", "explored"])
def run(request, tmp_path_factory):
    """Return the folder of two episodes, and whether they explored."""
    folder, explores = tmp_path_factory.mktemp(request.param), request.param == "explored"
    path, bundle = exported(folder, "GRU"), folder / "bundle.onnx"
    line = ["adopt", str(path), "--contract", str(contract(folder)), "--out", str(bundle)]
    assert main([*line, *(["--explore-std", "0.15"] if explores else [])]) == 0
    options = ["--episodes", "2", *(["--explore", "--seed", "5"] if explores else [])]
    with (
        runs.twin(folder, lockstep=True) as twin,
        runs.deployment(folder / "run", twin.address, bundle, *options) as deployed,
    ):
        status, _, err = deployed.end()
    assert (status, err) == (0, "")
    return folder, explores


def test_each_episode_is_asked_from_its_first_step(run):
    folder, explores = run
    log, held = runs.read(folder / "run"), reader.load(folder / "bundle.onnx")
    assert [len(episode.now_s) for episode in log.episodes] == [STEPS + 1] * 2
    for episode in log.episodes:
        actor = reader.Actor(held, explore=False)
        mean = np.array([actor.act(row)[0] for row in episode.observation[:-1]])
        away = np.abs(episode.proposed[:-1] - mean).max(axis=1)
        if explores:
            assert require_log_prob(log, episode, held) == STEPS
            assert away.mean() > 0.05
        else:
            np.testing.assert_array_equal(away, 0.0)
        forgetful = held.outputs(episode.observation[:-1], ("action",))[0]
        assert np.abs(forgetful - mean)[1:].max() > 0.01  # without its memory it would do another


def test_replay_agrees(run, capsys):
    folder, explores = run
    assert main(["replay", str(folder / "run"), "--policy", str(folder / "bundle.onnx")]) == 0
    said = capsys.readouterr().out
    assert "every verdict is as logged" in said
    assert f"{2 * STEPS if explores else 0} log-probabilities are those of" in said


def test_a_log_probability_that_another_memory_made_is_found(run):
    """The rows of an episode in another order are not what the policy was asked."""
    folder, explores = run
    if not explores:
        pytest.skip("the mean has no log-probability")
    log, held = runs.read(folder / "run"), reader.load(folder / "bundle.onnx")
    episode = log.episodes[0]
    episode.observation[[3, 12]] = episode.observation[[12, 3]]
    episode.log_prob[[3, 12]] = np.nan  # these two are not compared; those after them are
    with pytest.raises(LogError, match="log_prob should be"):
        require_log_prob(log, episode, held)
