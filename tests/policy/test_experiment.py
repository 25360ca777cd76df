"""The experiment, small: every program that it runs is the real one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from holdfast import files, share
from holdfast.cli import main
from holdfast.errors import ConfigError, FileError
from holdfast.policy.experiment import arms, report
from holdfast.policy.experiment.arms import ARMS
from holdfast.policy.experiment.settings import ExperimentSettings
from holdfast.policy.experiment.sim2real import LOCK, RESULT, SETTINGS, Experiment
from holdfast.policy.models import checkpoint
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import resolve
from tests.helpers.data.bundles import drive_contract

OWN = """
from holdfast.sim.robots.drive import Drive
from holdfast.sim.tasks.circle import Circle

def Mine():
    return Circle("mine/Circle-v0", Drive(), radius_m=1.0, x_limit_m=0.9, episode_steps=50,
                  limit=10.0, gamma=0.99, lam=0.95)
"""
RANGES = """
gain: {all: [0.9, 1.0], left_motor: [0.9, 0.95]}
delay: [1, 3]
mass: 1.2
noise: {position: 0.01}
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "mine.py").write_text(OWN)
    (folder / "gaps.yaml").write_text(RANGES)
    return [
        *("experiment", "sim2real", "--out", str(folder / "out")),
        *("--task", f"{folder / 'mine.py'}:Mine", "--gaps", str(folder / "gaps.yaml")),
        *("--count", "1", "--least", "0.0001", "--iterations", "2", "--episodes", "4"),
        *("--allowance", "4", "--retraining", "1", "--yardstick", "2", "--parameters", "mass"),
    ]


@pytest.fixture(scope="module")
def out(line, tmp_path_factory):
    assert main(line) == 0
    return tmp_path_factory.getbasetemp() / line[3]


def test_each_arm_is_measured_on_the_true_robot(out):
    found = json.loads((out / "gap_00" / RESULT).read_text())
    assert found["arms"].keys() | found["failed"].keys() == {*ARMS}
    first = {"nominal", "randomised", "pessimistic"}
    assert {*first, "identified", "yardstick"} <= found["arms"].keys()
    kept = json.loads((out / "gap_00" / "yardstick.json").read_text())
    assert kept == {"worth": found["arms"]["yardstick"], "iterations": 2}
    _, data = checkpoint.load(out / "train_pessimistic" / CHECKPOINT)
    assert data["settings"]["pessimism"] == 5.0
    _, data = checkpoint.load(out / "train_randomised" / CHECKPOINT)
    assert "pessimism" not in data["settings"]
    assert all(worth["episodes"] == 200 for worth in found["arms"].values())
    robot = found["robot"]
    assert 0.9 <= robot["gain"]["all"] <= 1.0
    assert 0.9 <= robot["gain"]["left_motor"] <= 0.95
    assert robot["delay"]["command"] in (1, 2, 3)
    assert robot["mass"]["all"] == 1.2
    assert yaml.safe_load((out / "gap_00" / "gap.yaml").read_text()) == robot
    assert "drive_unmeasured" in (out / "gap_00" / "robot_0" / "robot.yaml").read_text()
    assert found["monitored"]["before"]["episodes"] == 4
    assert found["trial"] in ("certified", "alarm", "undecided")
    assert (out / report.PAGE).read_text().startswith("# Sim to real: mine/Circle-v0 on 1 robot")
    assert (out / report.PICTURE).read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("task", "names", "slopes", "iterations"),
    [
        ("DriveCircle-v0", ["gaps_drive.yaml", "gaps_drive_beyond.yaml"], True, 65),
        ("DriveGoal-v0", ["gaps_goal.yaml", "gaps_goal_beyond.yaml"], False, 200),
    ],
)
def test_the_robots_are_such_that_the_task_can_tell(tmp_path, task, names, slopes, iterations):
    """A task without a measured pose has no noise of one, and no slope to look for."""
    settings = ExperimentSettings(out=tmp_path, task=resolve(task))
    experiment = Experiment(settings, Console(quiet=True))
    assert [path.name for path in experiment.files] == names
    assert ("slope:x" in experiment.parameters) is slopes
    assert experiment.config.name == (
        "drive_unmeasured.yaml" if slopes else "drive_goal_unmeasured.yaml"
    )
    assert "mass" in experiment.parameters
    assert json.loads((tmp_path / SETTINGS).read_text())["iterations"] == iterations


def test_faulty_words_and_ranges_are_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "none.yaml").write_text("{}\n")
    for change, sentence in (
        ({"parameters": ("gian:each",)}, "parameters: unknown gian; did you mean 'gain'"),
        ({"gaps": (tmp_path / "none.yaml",)}, "none.yaml: should hold a parameter"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Experiment(ExperimentSettings(out=tmp_path / "out", **change), Console(quiet=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_file_where_a_robot_s_folder_should_be_is_refused_at_once(tmp_path, make):
    make(tmp_path / "gap_03")
    with pytest.raises(ConfigError, match="gap_03: should be a folder; give another --out"):
        Experiment(ExperimentSettings(out=tmp_path), Console(quiet=True))
    assert not (tmp_path / SETTINGS).exists()


def test_what_a_configuration_holds_is_part_of_the_settings(tmp_path):
    path, out = tmp_path / "mine.yaml", tmp_path / "out"
    given = (share.folder() / "config" / "drive_unmeasured.yaml").read_text()
    settings = ExperimentSettings(out=out, config=path)
    for text in (given, given):
        path.write_text(text)
        Experiment(settings, Console(quiet=True))
    path.write_text(given + "# another one\n")
    with pytest.raises(ConfigError, match="is of an experiment with other settings"):
        Experiment(settings, Console(quiet=True))


def test_a_folder_is_of_one_running_experiment(out, line, capsys):
    with files.locked(out / LOCK, 0.0):
        assert main(line) == 1
    assert re.search(r"lock: is held by process \d+; try again", capsys.readouterr().err)


def test_what_is_there_is_not_made_again(out, line, capsys):
    before = (out / "gap_00" / RESULT).stat().st_mtime_ns
    assert main(line) == 0
    assert (out / "gap_00" / RESULT).stat().st_mtime_ns == before
    assert "robot 0, cost / return: nominal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"gap": 7}, "gap should be 0, received 7"),
        ({"format": 9}, "format should be 1, received 9"),
        ({"ranges": "other.yaml"}, "ranges should be gaps.yaml, received other.yaml"),
        ({"certified": "no"}, "certified should be true or false, received 'no'"),
        (
            {"monitored": {"before": {"episodes": -5}}},
            "before: episodes should be a number in [1, ",
        ),
        ({"monitored": {}}, "lacks 'before'"),
        ({"arms": {}}, "lacks 'nominal'"),
        ({"arms": {"nominal": {"costs": {"other": {"mean": 3}}}}}, "arm 'nominal' should be one"),
    ],
)
def test_a_result_of_another_robot_or_format_is_not_counted(out, line, capsys, wrong, sentence):
    path = out / "gap_00" / RESULT
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | wrong))
    assert main(line) == 1
    assert f"{path}: {sentence}" in capsys.readouterr().err
    path.write_text(kept)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("[]", "does not hold what it should"),
        ('{"iterations": 2}', "lacks 'worth'"),
        (
            '{"iterations": 2, "worth": {"return": {"mean": 1}, "costs": {}}}',
            "lacks 'outside_corridor'",
        ),
        (
            '{"iterations": "2", "worth": {"return": {"mean": 1}, '
            '"costs": {"outside_corridor": {"mean": 1}}}}',
            "means and iterations should be numbers",
        ),
    ],
)
def test_a_damaged_yardstick_is_refused_before_the_robot_runs(out, line, capsys, wrong, sentence):
    folder = out / "gap_00"
    kept = {name: (folder / name).read_text() for name in (RESULT, "yardstick.json")}
    (folder / RESULT).unlink()
    (folder / "yardstick.json").write_text(wrong)
    assert main(line) == 1
    assert f"{folder / 'yardstick.json'}: {sentence}" in capsys.readouterr().err
    assert [each.name for each in folder.glob("robot_*")] == ["robot_0"]
    assert (folder / "both.onnx").exists() or (folder / "identified.onnx").exists()
    for name, text in kept.items():
        (folder / name).write_text(text)


def test_a_training_that_was_killed_before_its_first_checkpoint_begins_again(out, line):
    policy, checkpoint_ = out / "nominal.onnx", out / "train_nominal" / CHECKPOINT
    before = checkpoint_.read_bytes()
    policy.unlink()
    checkpoint_.unlink()
    assert main(line) == 0
    assert checkpoint_.read_bytes() == before
    assert policy.exists()


def test_what_is_not_the_experiment_s_own_stays(out, line, capsys, monkeypatch):
    """The folder of a robot whose run was cut short, with a person's files in it."""
    folder = out / "gap_00"
    kept = (folder / RESULT).read_text()
    (folder / RESULT).unlink()
    (folder / "mine.onnx").write_text("precious")
    (folder / "robot_0").rename(folder / "robot_1")
    found = []

    def stop(home, *_):
        found.append(home.name)
        raise ConfigError("that is enough")

    monkeypatch.setattr(arms, "demo_robot", stop)
    assert main(line) == 1
    assert "that is enough" in capsys.readouterr().err
    assert found == ["robot_0"]
    assert (folder / "mine.onnx").read_text() == "precious"
    assert not (folder / "identified.onnx").exists()
    (folder / RESULT).write_text(kept)


def test_a_full_disk_is_no_result_of_an_arm(tmp_path):
    bench = arms.Bench(ExperimentSettings(), tmp_path, None, (), {"randomised": tmp_path})

    def fail(error):
        raise error

    assert bench._try("logs", lambda _: fail(ConfigError("no log-probabilities"))) is None
    assert bench.failed == {"logs": "no log-probabilities"}
    with pytest.raises(FileError, match="No space left"):
        bench._try("both", lambda _: fail(FileError("cannot be written (No space left)")))
    assert bench.failed.keys() == {"logs"}


def test_a_page_that_cannot_be_written_is_refused_before_robots_run(out, line, capsys):
    page = out / report.PAGE
    page.unlink()
    page.mkdir()
    assert main(line) == 1
    said = capsys.readouterr()
    assert said.err == f"holdfast: {page}: cannot be written (it is a folder)\n"
    assert "robot 0" not in said.out
    page.rmdir()


def test_policies_without_their_settings_are_not_taken_over(out, line, capsys):
    settings = out / SETTINGS
    kept = settings.read_text()
    settings.unlink()
    assert main(line) == 1
    assert "has policies of an experiment, but no settings.json" in capsys.readouterr().err
    settings.write_text(kept)


def test_other_settings_need_another_folder(out, line, capsys):
    settings = (out / SETTINGS).read_text()
    assert main([*line, "--seed", "3"]) == 1
    assert "is of an experiment with other settings; give another --out" in capsys.readouterr().err
    assert (out / SETTINGS).read_text() == settings


def test_files_of_another_robot_are_refused_before_anything_is_trained(tmp_path, capsys):
    path, out = tmp_path / "gaps.yaml", tmp_path / "out"
    path.write_text("gain: {front_motor: [0.9, 1.0]}")
    assert main(["experiment", "sim2real", "--out", str(out), "--gaps", str(path)]) == 1
    assert "there is no actuator 'front_motor'" in capsys.readouterr().err
    assert not out.exists()
    line = ["experiment", "sim2real", "--task", "SkidCircle-v0", "--out", str(out)]
    assert main(line) == 1
    assert "gaps and randomise should be given for robot 'skid'" in capsys.readouterr().err
    assert not out.exists()


def test_a_factor_that_training_refuses_is_refused_before_anything_is_trained(tmp_path, capsys):
    line = ["experiment", "sim2real", "--out", str(tmp_path / "out"), "--pessimism", "1001"]
    assert main(line) == 1
    assert "pessimism should be in (0, 1000], received 1001" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_robots_are_drawn_from_their_ranges_by_seed():
    ranges = catalogue.Parameters.from_plain(yaml.safe_load(RANGES))
    one, again, other = (ranges.drawn(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert one.values("drawn") == one
    assert one.to_plain()["noise"] == {"position": 0.01}


def result(gap, cost, reward, *, certified, over=0, failed=None, yardstick=200.0):
    def worth(cost, reward):
        return {"costs": {"outside_corridor": {"mean": cost}}, "return": {"mean": reward}}

    run = {"episodes": 40, "over_cap": over, "true_costs": {"outside_corridor": {"mean": 16.0}}}
    arms = {"nominal": worth(30.0, 50.0), "identified": worth(cost, reward)}
    return {
        "gap": gap, "ranges": "gaps.yaml", "arms": arms | {"yardstick": worth(9.0, yardstick)},
        "failed": failed or {}, "monitored": {"before": run, "trial": run}, "gate": "try as canary",
        "trial": "certified" if certified else "alarm", "certified": certified,
    }  # fmt: skip


def test_the_page_counts(tmp_path):
    results = [
        result(0, 8.0, 190.0, certified=True),
        result(1, 10.0, 170.0, certified=True),  # at d, with too little return
        result(2, 10.1, 210.0, certified=True, over=1),  # truly above d
        result(3, 5.0, 200.0, certified=False, failed={"logs": "no log-probabilities"}),
    ]
    page, picture = report.write(tmp_path, results, drive_contract())
    text = page.read_text()
    assert "| **nominal**: trained in the nominal simulator | 30.0 [30.0, 30.0] | 0 of 4 |" in text
    identified = next(row for row in text.splitlines() if row.startswith("| **identified**"))
    assert "8.3 [5.0, 10.1] | 3 of 4 | 96 [85, 105] %" in identified
    assert "certified policy at or under d on 2 of 4 robots; 1 of these policies keep" in text
    assert "Of 3 certified policies, 1 cost more than d." in text
    assert "In 2 of 320 episodes behind the monitor the cost exceeded the episode cap." in text
    assert "truly costs 16.0 per episode" in text
    assert "Robot 3, logs: no log-probabilities" in text
    assert "| 0 | gaps.yaml | 30.0 / 50.0 | - | - | - | 8.0 / 190 | - | 9.0 / 200 |" in text
    assert re.search(r"identified", picture.read_text())


@pytest.mark.parametrize("yardstick", [-20.0, 0.0])
def test_a_yardstick_without_a_positive_return_has_no_shares(tmp_path, yardstick):
    results = [
        result(0, 8.0, 190.0, certified=True),
        result(1, 9.0, -50.0, certified=True, yardstick=yardstick),
    ]
    page, picture = report.write(tmp_path, results, drive_contract())
    text = page.read_text()
    assert "a yardstick's return is not above 0, so that it has no shares" in text
    assert "| return less the yardstick's [least, most] |" in text
    least, most = sorted((-10.0, -50.0 - yardstick))
    identified = next(row for row in text.splitlines() if row.startswith("| **identified**"))
    assert identified.endswith(f"| {(least + most) / 2:.0f} [{least:.0f}, {most:.0f}] |")
    assert "certified policy at or under d on 2 of 2 robots.\n" in text
    assert "%" not in text
    assert "return less the yardstick's" in picture.read_text()
