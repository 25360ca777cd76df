"""The whole loop, small: every program that it runs is the real one."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from math import cos, sin
from pathlib import Path

import pytest

from holdfast import share
from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.errors import ConfigError, LogError
from holdfast.log import reader as log
from holdfast.log.evidence import ALARM, CERTIFIED, UNDECIDED
from holdfast.log.writer import Recorder
from holdfast.policy.demo import evidence, report
from holdfast.policy.demo.demo import Demo, DemoSettings
from holdfast.policy.demo.robot import MARKER, claimed
from holdfast.robot import config as configs
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.recordings import info, record_episode
from tests.helpers.web import browser as browsers

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = [
    *("--iterations", "1", "--episodes", "3", "--allowance", "3", "--retraining", "1"),
    *("--generations", "1", "--parameters", "delay", "mass"),
]

OWN = """
from holdfast.sim.robots.drive import Drive
from holdfast.sim.tasks.circle import Circle

def Mine():
    return Circle("mine/Circle-v0", Drive(), radius_m=1.0, x_limit_m=0.9, episode_steps=50,
                  limit=10.0, gamma=0.99, lam=0.95)
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A task whose limit also a hardly trained policy keeps: it has no time to drive far."""
    path = tmp_path_factory.mktemp("task") / "mine.py"
    path.write_text(OWN)
    return resolve(f"{path}:Mine")


@pytest.fixture(scope="module")
def demo(tmp_path_factory, task):
    out = tmp_path_factory.mktemp("demo") / "run"
    Demo(
        DemoSettings(
            out=out,
            task=task,
            iterations=2,
            episodes=6,
            allowance=60,
            parameters=("delay", "mass"),
            generations=2,
            retraining=2,
        )
    ).run()
    return out


@pytest.fixture(scope="module")
def summary(demo):
    return json.loads((demo / report.SUMMARY).read_text())


def test_the_loop_went_round(demo, summary):
    assert summary["outcome"] == report.PROMOTED
    before, control, after = (log.read(demo / n) for n in ("before", "control", "after"))
    assert len(before.episodes) == len(control.episodes) == len(after.episodes) == 6
    assert before.info.bundle_hash == control.info.bundle_hash == summary["bundles"]["before"]
    assert after.info.bundle_hash == summary["bundles"]["after"]
    assert before.info.contract == after.info.contract
    assert before.info.identity["hardware_id"] == after.info.identity["hardware_id"]
    names = [step["step"] for step in summary["steps"]]
    assert names == ["train", "ship", "before", "identify", "retrain", "gate", "canary",
                     "promote", "after", "control", "uncapped"]  # fmt: skip
    assert all(step["gave"] and step["wall_s"] > 0.0 for step in summary["steps"])
    assert summary["seconds"]["wall"] >= sum(step["wall_s"] for step in summary["steps"])


def test_the_child_names_its_parent_its_log_and_its_profile(demo, summary):
    parent, child = bundle.load(demo / "policy_0.onnx"), bundle.load(demo / "policy_1.onnx")
    assert child.contract.hash == parent.contract.hash
    assert child.provenance["parent"] == parent.hash
    assert [run["run"] for run in child.provenance["logs"]] == ["before"]
    assert child.provenance["profile"] == catalogue.load(demo / "profile.yaml").to_plain()
    assert child.provenance["improve"]["tried"].keys() == {"parent"}


def test_each_step_by_hand_names_a_next_command_that_works(
    demo, task, tmp_path, monkeypatch, capsys
):
    def told(line):
        assert main(line) == 0
        said = capsys.readouterr().out.splitlines()
        (following,) = (each.partition(": ")[2] for each in said if each.startswith("next"))
        words = shlex.split(following)
        assert words.pop(0) == "holdfast"
        return words

    own = ["--task", task.id]
    monkeypatch.chdir(tmp_path)
    line = ["identify", "--log", str(demo / "before"), "--parameters", "mass"]
    line += ["--out=-a profile.yaml"]
    child = str(tmp_path / "child.onnx")
    improve = told([*line, *own, "--generations", "1", "--search-s", "20"])
    parent = {"PARENT.onnx": str(demo / "policy_0.onnx"), "child.onnx": child}
    improve = [parent.get(word, word) for word in improve]
    gate = told([*improve, "--iterations", "1", "--anew", "0", "--episodes", "10", "--anyway"])
    assert main(gate) in (0, 1)
    assert capsys.readouterr().out.startswith(f"{child}: ")


def test_the_robot_s_registry_has_what_was_promoted(demo, summary):
    registry = configs.load(demo / "robot.yaml").open_registry()
    assert registry.state.slot("promoted").bundle == summary["bundles"]["after"]
    run = log.read(demo / "after")
    assert run.info.episode_cap == {"outside_corridor": 20.0}  # that of the trial


def test_costs_are_counted_three_times_over(demo, summary):
    """Billed by the monitor; billed again from the log; and the twin's own account beside it."""
    for name in ("before", "after", "trial"):
        run = log.read(demo / summary["runs"][name])
        billed = [episode.result.costs[0] for episode in run.episodes]
        again = [(abs(e.signals["position"][1:, 0]) > 0.9).sum() for e in run.episodes]
        assert billed == again
        lines = (demo / f"{name}.truth.jsonl").read_text().splitlines()
        assert len(lines) == len(billed)
        row = summary["rows"][name]
        mean = sum(billed) / len(billed)
        assert row["costs"]["outside_corridor"]["mean"] == pytest.approx(mean)
        true = [json.loads(line)["cost_sum"]["outside_corridor"] for line in lines]
        mean = sum(true) / len(true)
        assert row["true_costs"]["outside_corridor"]["mean"] == pytest.approx(mean)


def test_the_page_s_evidence_is_the_registry_s(demo):
    """Computed again from the trial's log, it decides at the same episode."""
    trial = log.read(demo / "trial")
    (saved,) = (demo / "registry" / "evidence").glob("*-explore.json")
    keeps = json.loads(saved.read_text())["evidence"]["costs"][0]["keeps"]
    (curve,) = evidence.curves(trial)
    assert evidence.decided(trial) == CERTIFIED
    assert keeps["reached_at"] == len(trial.episodes)
    assert keeps["count"] == len(trial.episodes) + 6  # those of the run after
    assert curve.keeps[0] == 1.0
    assert [value >= 20.0 for value in curve.keeps] == [False] * keeps["reached_at"] + [True]


def test_the_page_stands_alone(demo, task):
    page = (demo / report.PAGE).read_text()
    assert page.count("<svg") == 6
    assert "$" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S)  # nothing left to fill in
    assert not re.search(r'(src|href)="(http|/|\.)', page)
    assert report.command(demo, task) is None  # made again from what lies there
    assert (demo / report.PAGE).read_text() == page


@pytest.mark.skipif(browsers.programs() is None, reason=browsers.NOT_INSTALLED)
def test_a_browser_shows_the_page(demo, summary):
    with browsers.browser() as browser:
        for width in (1280, 400):
            browser.open((demo / report.PAGE).resolve().as_uri(), width)
            assert browser.text(".verdict") == report.verdict(summary)
            assert browser.overflow() == []
            assert "first policy again" in browser.text("#result")
            assert "retrain" in browser.text("#steps")
            _plays_and_pauses(browser)
            assert browser.complaints() == []


def _plays_and_pauses(browser):
    """The animation goes on, has drawn both runs, and stands still when asked to."""

    def captions():
        return browser.run(
            "return [...document.querySelectorAll('#motion figcaption')].map((e) => e.innerText)"
        )

    first = captions()
    assert [text.partition(":")[0] for text in first] == ["before", "after"]
    browser.until(lambda: captions() != first)
    browser.click("#play")
    paused = captions()
    painted = browser.run(
        """
        return [...document.querySelectorAll("#motion canvas")].map((canvas) =>
          canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
            .some((value) => value));
        """
    )
    assert painted == [True, True]
    assert browser.text("#play") == "Play"
    time.sleep(0.3)
    assert captions() == paused


def test_a_demo_replaces_a_demo_and_nothing_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something other than a demo"):
        Demo(DemoSettings(out=tmp_path)).run()
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_two_demos_do_not_share_a_folder(tmp_path):
    """Another program has claimed the folder, and works there."""
    out = tmp_path / "run"
    code = (
        "import sys, pathlib; from holdfast.policy.demo.robot import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): print('here', flush=True); sys.stdin.read()"
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
    with claimed(out):  # a demo that ended leaves its folder to the next
        assert [path.name for path in out.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--task", "PointCircle-v0"], "gap should be given for robot 'point'"),
        (["--task", "none.py:Mine"], "there is no file none.py"),
        (["--config", "car.yaml"], "the configuration is of robot 'car', the policy of 'drive'"),
        (["--limit", "1", "2"], "limit should have a value for each cost"),
        (["--gap", "gap.yaml"], "gap.yaml: gap: gain: there is no actuator 'motor_a'"),
        (["--out", "/proc/x"], "/proc/x: no folder can be made here (No such file or directory)"),
    ],
)
def test_a_demo_of_ones_own_is_refused_before_it_trains(
    tmp_path, monkeypatch, capsys, options, sentence
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "car.yaml", tmp_path)
    (tmp_path / "gap.yaml").write_text("gain: {motor_a: 0.9}\n")
    assert main(["demo", "--out", "run", *options]) == 1
    told, said = capsys.readouterr()
    assert sentence in said
    assert said.count("\n") == 1
    assert told == ""
    assert not (tmp_path / "run" / "train").exists()


def test_a_demo_and_its_page_of_a_task_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    shutil.copy(share.folder() / "config" / "drive.yaml", tmp_path / "mine.yaml")
    own = ["--task", "mine.py:Mine"]
    own_config = ["--config", "mine.yaml", "--limit", "8"]
    assert main(["demo", "--out", "run", *own, *own_config, *SMALL]) == 0
    held = bundle.load(tmp_path / "run" / "policy_1.onnx").contract
    assert (held.task, held.costs[0].limit) == ("mine/Circle-v0", 8.0)
    page = (tmp_path / "run" / report.PAGE).read_text()
    assert "mine/Circle-v0" in page
    capsys.readouterr()
    assert main(["report", "--run", "run", *own]) == 0
    assert main(["report", "--run", "run"]) == 1
    assert "give the task with --task" in capsys.readouterr().err
    assert main(["report", "--run", "run", "--task", f"{EXAMPLES / 'car.py'}:CarLaps"]) == 1
    assert "is task 'example/CarLaps-v0', the run is of 'mine/Circle-v0'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [("iterations", 0, "at least 1"), ("episodes", 1, "at least 2"), ("seed", -1, r"in \[0, ")],
)
def test_bad_settings_are_refused(name, value, rule):
    with pytest.raises(ConfigError, match=f"{name} should be {rule}"):
        DemoSettings(**{name: value})


def summary_of(before, after, high, true=None, outcome=report.PROMOTED):
    def row(mean, high):
        return {"costs": {"speeding": {"mean": mean, "low": 0.0, "high": high}}, "episodes": 40}

    last = row(after, high)
    if true is not None:
        last["true_costs"] = {"speeding": {"mean": true, "low": 0.0, "high": high}}
    rows = {"before": row(before, before), "after": last, "trial": row(after, high)}
    return {"limits": {"speeding": 10.0}, "outcome": outcome, "rows": rows}


@pytest.mark.parametrize(
    ("after", "high", "true", "met", "words"),
    [
        (8.0, 9.5, 8.1, True, "above the whole 95 % interval"),
        (8.0, 12.0, None, True, "exceeds (12.0)"),
        (11.0, 13.0, 8.0, False, "which the run after exceeded"),
        (8.0, 9.0, 15.0, False, "part of which no sensor shows, is 15.0"),
    ],
)
def test_the_verdict_says_what_is(after, high, true, met, words):
    data = summary_of(20.0, after, high, true)
    assert report.met(data) is met
    assert words in report.verdict(data)
    assert report.verdict(data).startswith("Promoted: 40 episodes")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (UNDECIDED, "40 episodes of the child's trial decide nothing"),
        (ALARM, "the child's trial gave an alarm after 40 episodes"),
        (report.REJECTED, "the gate rejected the child"),
    ],
)
def test_the_verdict_does_not_contradict_the_evidence(outcome, words):
    """However low the cost of a run was, a child that was not certified is not told as good."""
    data = summary_of(20.0, 2.0, 3.0, outcome=outcome)
    assert not report.met(data)
    assert report.verdict(data).startswith("Not promoted: ")
    assert words in report.verdict(data)


def test_the_verdict_speaks_of_every_cost():
    """One limit met and one not: a sentence each, and the whole is not met."""
    data = summary_of(20.0, 8.0, 9.5)
    data["limits"]["bumps"] = 1.0
    for row in data["rows"].values():
        row["costs"]["bumps"] = {"mean": 2.0, "low": 1.0, "high": 3.0}
    assert not report.met(data)
    said = report.verdict(data)
    assert "each of its limits" in said
    assert "of speeding per episode was 20.0 and 8.0; the limit is 10, above the whole" in said
    assert "of bumps per episode was 2.0 and 2.0; the limit is 1, which the run after exc" in said


def test_row_of_a_recorded_run_by_hand(tmp_path):
    recorder = Recorder(tmp_path / "run", info(contract=drive_contract()))
    for episode in range(3):
        record_episode(recorder, episode, 6, code="interrupted")
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
    ran = {"before": "before", "after": "after"}
    summary = {"runs": ran, "progress": "progress.jsonl"}
    with pytest.raises(LogError, match=r"before and .*after are the same run; give it once"):
        report.write(tmp_path, summary)
    # A demo whose child was rejected has one run, which is shown twice.
    with pytest.raises(LogError, match=r"progress\.jsonl"):
        report.write(tmp_path, {**summary, "runs": {**ran, "after": "before"}})


@pytest.mark.parametrize("content", [None, "not json", '{"format": 99}'])
def test_report_of_no_demo_is_refused(tmp_path, content):
    if content:
        (tmp_path / report.SUMMARY).write_text(content)
    with pytest.raises(LogError, match=r"summary\.json"):
        report.command(tmp_path)
