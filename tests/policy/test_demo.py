"""The whole loop, small: every program that it runs is the real one."""

import json
import re
import shutil
import subprocess
import sys
from math import cos, sin
from pathlib import Path

import pytest

from holdfast import share
from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import ConfigError, LogError
from holdfast.log import reader as log
from holdfast.log.writer import Recorder
from holdfast.policy import report
from holdfast.policy.demo import MARKER, Demo, DemoSettings, _claimed
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.recordings import info, record_episode

EXAMPLES = Path(__file__).parents[2] / "examples"
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A hardly trained policy's demo, with a round of fine-tuning whatever its cost."""
    out = tmp_path_factory.mktemp("demo") / "run"
    made = Demo(DemoSettings(out=out, iterations=2, episodes=6, rounds=1))
    learn = made._learn
    never = {"outside_corridor": -1.0}
    made._learn = lambda parent, run, row, limits: learn(parent, run, row, never)
    made.run()
    return out


@pytest.fixture(scope="module")
def summary(demo):
    return json.loads((demo / report.SUMMARY).read_text())


def test_the_loop_went_round(demo, summary):
    (learned,) = summary["rounds"]
    assert learned["finetune"]["episodes"] == 6
    before, after = log.read(demo / summary["before"]), log.read(demo / summary["after"])
    assert len(before.episodes) == len(after.episodes) == 6
    assert before.info.bundle_hash == summary["bundles"]["before"]
    assert after.info.bundle_hash == summary["bundles"]["after"]
    assert before.info.contract == after.info.contract


def test_the_child_names_its_parent_and_its_logs(demo, summary):
    parent, child = bundle.load(demo / "policy_0.onnx"), bundle.load(demo / "policy_1.onnx")
    assert child.contract.hash == parent.contract.hash
    assert child.provenance["parent"] == parent.hash
    assert [run["run"] for run in child.provenance["logs"]] == ["run_0"]


def test_costs_are_counted_three_times_over(demo, summary):
    """Billed by the monitor; billed again from the log; and the twin's own account beside it."""
    run = log.read(demo / summary["before"])
    billed = [episode.result.costs[0] for episode in run.episodes]
    again = [(abs(e.signals["position"][1:, 0]) > 0.9).sum() for e in run.episodes]
    assert billed == again
    lines = (demo / "run_0.truth.jsonl").read_text().splitlines()
    assert len(lines) == len(billed)
    row = summary["rows"]["twin before"]
    assert row["costs"]["outside_corridor"]["mean"] == pytest.approx(sum(billed) / 6)
    true = [json.loads(line)["cost_sum"]["outside_corridor"] for line in lines]
    assert row["true_costs"]["outside_corridor"]["mean"] == pytest.approx(sum(true) / 6)


def test_the_page_stands_alone(demo):
    page = (demo / report.PAGE).read_text()
    assert page.count("<svg") == 5
    assert "$" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S)  # nothing left to fill in
    assert not re.search(r'(src|href)="(http|/|\.)', page)
    assert report.command(demo) is None  # made again from what lies there
    assert (demo / report.PAGE).read_text() == page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the page in")
def test_a_browser_shows_the_page(demo, tmp_path):
    line = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            (demo / report.PAGE).resolve().as_uri()]  # fmt: skip
    shown = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "twin after" in shown
    assert shown.count("<svg") == 5


def test_a_demo_replaces_a_demo_and_nothing_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something other than a demo"):
        Demo(DemoSettings(out=tmp_path)).run()
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_two_demos_do_not_share_a_folder(tmp_path):
    """Another program has claimed the folder, and works there."""
    out = tmp_path / "run"
    code = (
        "import sys, pathlib; from holdfast.policy.demo import _claimed\n"
        "with _claimed(pathlib.Path(sys.argv[1])): print('here', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "here\n"
    (out / "policy_0.onnx").write_text("the other's")
    with pytest.raises(ConfigError, match="another demo uses this folder; give another --out"):
        Demo(DemoSettings(out=out)).run()
    assert (out / "policy_0.onnx").read_text() == "the other's"
    other.communicate("")
    with _claimed(out):  # a demo that ended leaves its folder to the next
        assert [path.name for path in out.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--task", "PointCircle-v0"], "gap should be given for robot 'point'"),
        (["--task", "none.py:Mine"], "there is no file none.py"),
        (["--config", "car.yaml"], "the configuration is of robot 'car', the policy of 'drive'"),
        (["--limit", "1", "2"], "limit should have a value for each cost"),
    ],
)
def test_a_demo_of_ones_own_is_refused_before_it_trains(
    tmp_path, monkeypatch, capsys, options, sentence
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "car.yaml", tmp_path)
    assert main(["demo", "--out", "run", *options]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run" / "train").exists()


OWN = """
from holdfast.sim.robots.drive import Drive
from holdfast.sim.tasks.circle import Circle

def Mine():
    return Circle("mine/Circle-v0", Drive(), radius_m=1.0, x_limit_m=0.05, episode_steps=50,
                  limit=10.0, gamma=0.99, lam=0.95)
"""


def test_a_demo_and_its_page_of_a_task_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    shutil.copy(share.folder() / "config" / "drive.yaml", tmp_path / "mine.yaml")
    own = ["--task", "mine.py:Mine"]
    small = ["--iterations", "1", "--episodes", "3", "--rounds", "1", "--limit", "0"]
    assert main(["demo", "--out", "run", *own, "--config", "mine.yaml", *small]) == 0
    held = bundle.load(tmp_path / "run" / "policy_1.onnx").contract
    assert (held.task, held.costs[0].limit) == ("mine/Circle-v0", 0.0)
    page = (tmp_path / "run" / report.PAGE).read_text()
    assert "mine/Circle-v0" in page
    capsys.readouterr()
    assert main(["report", "--run", "run", *own]) == 0
    assert main(["report", "--run", "run"]) == 1
    assert "give the task with --task" in capsys.readouterr().err
    assert main(["report", "--run", "run", "--task", f"{EXAMPLES / 'car.py'}:CarLaps"]) == 1
    assert "is task 'example/CarLaps-v0', the run is of 'mine/Circle-v0'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("iterations", 0), ("episodes", 1), ("seed", -1)])
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} should be at least"):
        DemoSettings(**{name: value})


def summary_of(before, after, high, true=None):
    def row(mean, high):
        return {"costs": {"speeding": {"mean": mean, "low": 0.0, "high": high}}}

    last = row(after, high)
    if true is not None:
        last["true_costs"] = {"speeding": {"mean": true, "low": 0.0, "high": high}}
    rows = {"twin before": row(before, before), "twin after": last}
    return {"limits": {"speeding": 10.0}, "rounds": [None], "rows": rows}


@pytest.mark.parametrize(
    ("after", "high", "true", "met", "words"),
    [
        (8.0, 9.5, 8.1, True, "whole 95 %"),
        (8.0, 12.0, None, True, "reaches 12.0"),
        (11.0, 13.0, 8.0, False, "not met"),
        (8.0, 9.0, 15.0, False, "true cost, which odometry misses, is 15.0"),
    ],
)
def test_the_verdict_says_what_is(after, high, true, met, words):
    data = summary_of(20.0, after, high, true)
    assert report.met(data) is met
    assert words in report.verdict(data)
    assert report.verdict(data).startswith("On the twin the mean of speeding")


def test_the_verdict_speaks_of_every_cost():
    """One limit met and one not: a sentence each, and the whole is not met."""
    data = summary_of(20.0, 8.0, 9.5)
    data["limits"]["bumps"] = 1.0
    for row in data["rows"].values():
        row["costs"]["bumps"] = {"mean": 2.0, "low": 1.0, "high": 3.0}
    assert not report.met(data)
    first, second = report.verdict(data).split(". ")
    assert "whole 95 %" in first
    assert second.startswith("On the twin the mean of bumps")
    assert "not met" in second


def test_row_of_a_recorded_run_by_hand(tmp_path):
    recorder = Recorder(tmp_path / "run", info(contract=drive_contract()))
    for episode in range(3):
        record_episode(recorder, episode, 6)
    recorder.close()
    row = report.row(log.read(tmp_path / "run"))
    assert row["costs"] == {"outside_corridor": {"mean": 6.0, "low": 6.0, "high": 6.0}}
    assert row["episodes"] == 3
    assert row["steps"] == 18
    # At (k, −k), speed 0.2 along 0.01 k: the reward of six steps, from its definition.
    expected = sum(
        0.2 * (sin(0.01 * k) * k + cos(0.01 * k) * k) / (1.0 + abs(k * 2**0.5 - 1.5))
        for k in range(1, 7)
    )
    assert row["return"]["mean"] == pytest.approx(expected)


def test_a_copy_of_a_run_is_not_shown_as_another(tmp_path):
    recorder = Recorder(tmp_path / "before", info(contract=drive_contract()))
    record_episode(recorder, 0, 6)
    recorder.close()
    (tmp_path / "after").mkdir()
    shutil.copy(tmp_path / "before" / "before_0.mcap", tmp_path / "after" / "after_0.mcap")
    summary = {"before": "before", "after": "after", "progress": "progress.jsonl"}
    with pytest.raises(LogError, match=r"before and .*after are the same run; give it once"):
        report.write(tmp_path, summary)
    # A demo without fine-tuning has one run, which is shown twice.
    with pytest.raises(LogError, match=r"progress\.jsonl"):
        report.write(tmp_path, {**summary, "after": "before"})


@pytest.mark.parametrize("content", [None, "not json", '{"format": 99}'])
def test_report_of_no_demo_is_refused(tmp_path, content):
    if content:
        (tmp_path / report.SUMMARY).write_text(content)
    with pytest.raises(LogError, match=r"summary\.json"):
        report.command(tmp_path)
