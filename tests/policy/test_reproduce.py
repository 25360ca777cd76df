"""The comparison of algorithms, small: its runs are real."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.log.format import PROGRESS
from holdfast.policy import reproduce
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import defaults
from holdfast.policy.reproduce import STUDIES, Study, folder, last, records
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.registry import resolve
from tests.helpers.robots import runs

TASK = "holdfast/PointCircle-v0"
SMALL = Study(iterations=3, prices=(2.0,), batch=150, algorithms=("cpo",))
RUNS = ("cpo", "trpo-penalty-2")


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "STUDIES", {TASK: SMALL})
    return tmp_path / "out"


def run(out, *options):
    return main(["reproduce", "--tasks", TASK, "--out", str(out), *options])


def test_studies_are_at_the_papers_settings():
    for task, study in STUDIES.items():
        usual = defaults("paper", resolve(task))
        for name, settings in study.runs(task).items():
            assert getattr(settings.own, "step", usual.own.step) == usual.own.step
            assert settings.shaping == usual.shaping
            assert settings.hidden == (64, 32)
            assert name.startswith(settings.algorithm)
        if "Point" in task:
            assert settings.batch == 50_000


def test_a_page_of_all_runs_of_which_none_is_run_twice(out, capsys):
    assert run(out, "--seeds", "1") == 0
    assert "left: 2 of 2 runs, 6 of 6 iterations" in capsys.readouterr().out
    done = folder(out, TASK, "cpo", 0) / "checkpoint.safetensors"
    written = done.stat().st_mtime_ns
    assert run(out, "--seeds", "2") == 0
    assert "left: 2 of 4 runs, 6 of 12 iterations" in capsys.readouterr().out
    assert done.stat().st_mtime_ns == written
    page = (out / "results.md").read_text()
    assert "3 iterations of 150 steps; limit d = 5 outside_corridor per episode" in page
    for name in RUNS:
        costs, shaped = [], []
        for seed in (0, 1):
            run_records = records(folder(out, TASK, name, seed))
            assert [r["iteration"] for r in run_records] == [1, 2, 3]
            final = run_records[-1]  # a fifth of 3 is one iteration
            costs.append(final["costs"]["outside_corridor"])
            shaped.append(final["shaped_costs"]["outside_corridor"])
        assert costs[0] != costs[1], "each has a seed of its own"
        both = ", ".join(f"{cost:.3g}" for cost in costs)
        assert f"| {both} | {np.mean(shaped):.3g} ± {np.std(shaped):.2g} |" in page
    assert (out / "PointCircle-v0.svg").read_text().startswith("<svg")


def test_named_algorithms_alone_are_trained_and_shown(out, capsys):
    assert run(out, "--seeds", "1", "--algorithms", "trpo-penalty-2") == 0
    assert "left: 1 of 1 runs" in capsys.readouterr().out
    page = (out / "results.md").read_text()
    assert "| trpo-penalty-2 |" in page
    assert "| cpo |" not in page
    assert run(out, "--algorithms", "trpo-penalty-3") == 1
    assert (
        f"algorithms: {TASK} has no runs of 'trpo-penalty-3'; did you mean 'trpo-penalty-2'?"
        in capsys.readouterr().err
    )


def test_an_interrupted_run_goes_on_from_its_checkpoint(out, monkeypatch, capsys):
    monkeypatch.setitem(reproduce.STUDIES, TASK, Study(4, (), 150, ("cpo",)))
    monkeypatch.setattr(reproduce, "CHECKPOINT_EVERY", 2)
    iterate, ran = Learner.iterate, []

    def interrupted(learner):
        ran.append(learner.iteration)
        if ran == [0, 1, 2, 3]:
            raise KeyboardInterrupt
        return iterate(learner)

    monkeypatch.setattr(Learner, "iterate", interrupted)
    assert run(out, "--seeds", "1") == 130
    begun = records(place := folder(out, TASK, "cpo", 0))
    capsys.readouterr()
    assert run(out, "--seeds", "1") == 0
    assert "left: 1 of 1 runs, 2 of 4 iterations" in capsys.readouterr().out
    assert ran == [0, 1, 2, 3, 2, 3], "the third is run again, the first two are not"
    assert [record["iteration"] for record in records(place)] == [1, 2, 3, 4]
    assert records(place)[:2] == begun[:2]


BROKEN_OFF = """
import sys
from holdfast.cli import main
from holdfast.policy import reproduce
reproduce.STUDIES = {"holdfast/PointCircle-v0": reproduce.Study(16, (), 150, ("cpo", "pcpo"))}
reproduce.CHECKPOINT_EVERY = 3
sys.exit(main(["reproduce", "--tasks", *reproduce.STUDIES, "--seeds", "1", "--out", sys.argv[1]]))
"""


def test_a_comparison_that_was_killed_goes_on_where_it_was(out, monkeypatch, capsys):
    """SIGKILL in the second run, between two checkpoints, and in the middle of a line."""
    process = subprocess.Popen([sys.executable, "-c", BROKEN_OFF, str(out)])
    progress = folder(out, TASK, "pcpo", 0) / PROGRESS
    try:
        runs.until(lambda: progress.exists() and progress.read_text().count("\n") > 3, limit_s=120)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    begun = len(records(progress.parent))
    assert begun < 16
    with progress.open("rb+") as file:
        file.truncate(progress.stat().st_size - 20)
    assert len(records(progress.parent)) == begun - 1
    saved = Learner.load(progress.parent / CHECKPOINT).iteration
    assert 3 <= saved <= begun
    monkeypatch.setitem(reproduce.STUDIES, TASK, Study(16, (), 150, ("cpo", "pcpo")))
    assert run(out, "--seeds", "1") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left: ")]
    assert told == [
        f"left: 1 of 2 runs, {16 - saved} of 32 iterations",
        "left: 0 of 2 runs, 0 of 32 iterations",
    ]
    assert run(out.with_name("whole"), "--seeds", "1") == 0
    for name in ("results.md", "PointCircle-v0.svg"):
        assert (out / name).read_bytes() == (out.with_name("whole") / name).read_bytes()


def test_the_last_fifth():
    values = np.arange(20.0).reshape(2, 10)
    np.testing.assert_array_equal(last(values), [8.5, 18.5])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--seeds", "0"), "seeds should be at least 1, received 0"),
        (("--tasks", "DriveGoal-v0"), "tasks should be of holdfast/PointCircle-v0, "),
        (("--tasks", "holdfast/Nothing-v0"), "did you mean 'holdfast/P"),
    ],
)
def test_bad_input(tmp_path, capsys, options, sentence):
    assert main(["reproduce", "--out", str(tmp_path / "out"), *options]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
