"""A training that is watched: what the viewer reads of its records, and a real one in a browser."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from holdfast import plain
from holdfast.cli import main
from holdfast.robot.view.watched_training import WatchedTraining
from tests.helpers.web import browser as browsers
from tests.helpers.web.viewer import watched


def record(iteration, **changes):
    """A record with the entries that the page needs."""
    first = {"task": "Aisle-v0", "algorithm": "cpo"} if iteration == 1 else {}
    return {
        "iteration": iteration, "iterations": 3, **first, "steps": 100 * iteration,
        "return": 2.0 * iteration, "costs": {"outside": 9.0 / iteration, "leaning": 1.0},
        "limits": {"outside": 5.0, "leaning": 2.0}, "kl": 0.01, "steps_per_s": 1e3,
        "case": "boundary", "accepted": 0, "seconds": {"rollout": 0.1, "step": 0.2}, **changes,
    }  # fmt: skip


def write(folder, *records):
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(each) + "\n" for each in records)
    (folder / "progress.jsonl").write_text(text)


def add(folder, text):
    with (folder / "progress.jsonl").open("a") as file:
        file.write(text)


def test_each_whole_line_is_told_once(tmp_path):
    write(tmp_path, record(1))
    training = WatchedTraining(tmp_path)
    assert training.read()
    messages = training.messages()
    message = next(messages)
    assert message["about"]["costs"] == [
        {"name": "outside", "limit": 5.0},
        {"name": "leaning", "limit": 2.0},
    ]
    assert (message["about"]["task"], message["about"]["algorithm"]) == ("Aisle-v0", "cpo")
    assert [each["return"] for each in message["records"]] == [2.0]
    assert not training.read()
    line = json.dumps(record(2))
    add(tmp_path, line[:40])
    assert not training.read()
    add(tmp_path, line[40:] + "\n" + json.dumps(record(3, accepted=None)) + "\n")
    assert training.read()
    message = next(messages)
    assert message["from"] == 1
    assert [(each["return"], each["accepted"]) for each in message["records"]] == [
        (4.0, 0),
        (6.0, None),
    ]
    assert message["status"]["over"]
    assert message["status"]["lasts_s"] == pytest.approx(0.3)


def test_a_training_that_was_resumed_is_told_anew(tmp_path):
    write(tmp_path, record(1), record(2), record(3))
    training = WatchedTraining(tmp_path)
    training.read()
    messages = training.messages()
    assert len(next(messages)["records"]) == 3
    write(tmp_path / "new", record(1, iterations=9))
    (tmp_path / "new" / "progress.jsonl").rename(tmp_path / "progress.jsonl")
    assert training.read()
    message = next(messages)
    assert message["from"] == 0
    assert [each["iteration"] for each in message["records"]] == [1]
    assert not message["status"]["over"]


def test_records_of_an_older_version_have_no_limits(tmp_path):
    old = {k: v for k, v in record(1).items() if k not in ("limits", "iterations", "task")}
    write(tmp_path, old)
    training = WatchedTraining(tmp_path)
    training.read()
    message = next(training.messages())
    assert message["about"]["costs"][0] == {"name": "outside", "limit": None}
    assert message["about"]["task"] == ""
    assert (message["status"]["iterations"], message["status"]["over"]) == (None, False)


def test_a_training_for_a_range_has_no_one_limit(tmp_path):
    """What a record says of such limits is the mean of those that its episodes drew."""
    at = {"outside at 2": {"limit": 2.1, "cost": 9.0, "return": 2.0}}
    write(tmp_path, record(1, limits={"outside": 8.56, "leaning": 2.2}, by_limit=at))
    training = WatchedTraining(tmp_path)
    training.read()
    about = next(training.messages())["about"]
    assert [cost["limit"] for cost in about["costs"]] == [None, None]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "does not hold what it should"),
        ("[]", "does not hold what it should"),
        ("[]", "should be a mapping, received []"),
        ('{"iteration": 2}', "lacks 'accepted'"),
        (json.dumps(record(2, kl="x")), "kl should be a finite number, received 'x'"),
        (json.dumps(record(2, kl=None)), "kl should be a finite number, received null"),
        (json.dumps(record(2, steps=True)), "steps should be at least 0, received true"),
        (json.dumps(record(True)), "iteration should be a whole number, at least 2, "),
        (json.dumps(record(-5)), "iteration should be a whole number, at least 2, received -5"),
        (json.dumps(record(1)), "iteration should be a whole number, at least 2, received 1"),
        (json.dumps(record(2, accepted=0.5)), "accepted should be a whole number, at least 0, rec"),
        (json.dumps(record(2, iterations=0)), "iterations should be a whole number, at least 1, "),
        (json.dumps(record(2, costs=None)), "costs should be a mapping, received null"),
        (json.dumps(record(2, seconds={"step": None})), "seconds.step should be a finite number, "),
        (
            json.dumps(record(2, seconds={"a": 1e308, "b": 1e308})),
            "sum of seconds should be a finite",
        ),
        (json.dumps(record(2, kl=float("nan"))), "kl should be a finite number"),
        (json.dumps(record(2, costs={"other": 1.0})), "should be those of the first iteration"),
        ('{"\xff"', "iteration 2"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, sentence):
    write(tmp_path, record(1))
    with (tmp_path / "progress.jsonl").open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    training = WatchedTraining(tmp_path)
    assert training.read()
    assert f"{tmp_path / 'progress.jsonl'}, iteration 2: " in training.problem
    assert sentence in training.problem
    assert not training.read()
    assert training.status()["iteration"] == 1


def test_a_line_without_an_end_is_not_waited_for(tmp_path):
    with (tmp_path / "progress.jsonl").open("wb") as file:
        file.truncate(plain.MAX_BYTES + 1)
    training = WatchedTraining(tmp_path)
    assert training.read()
    assert "progress.jsonl: should have shorter lines than 67108864 bytes" in training.problem


def test_a_training_with_a_damaged_line_is_not_over(tmp_path):
    write(tmp_path, record(1), record(2), record(3))
    training = WatchedTraining(tmp_path)
    training.read()
    assert training.status()["over"]
    add(tmp_path, "garbage\n")
    training.read()
    assert training.problem
    assert not training.status()["over"]


def test_a_folder_with_neither_has_one_sentence(tmp_path, capsys):
    (tmp_path / "report.html").write_text("")
    assert main(["watch", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"holdfast: {tmp_path}: should hold the log of a run (*_0.mcap) or a training "
        "(progress.jsonl), found neither; --live waits for one that has not begun\n"
    )


@pytest.mark.skipif(browsers.programs() is None, reason=browsers.NOT_INSTALLED)
def test_a_real_training_is_followed_to_its_end(tmp_path):
    out = tmp_path / "run"
    options = ["--task", "PointCircle-v0", "--batch", "650", "--critic-steps", "2"]
    train = [sys.executable, "-m", "holdfast", "train", *options, "--out", str(out)]
    with (
        subprocess.Popen([*train, "--iterations", "4"], stdout=subprocess.DEVNULL) as run,
        browsers.browser() as browser,
        watched(out, "--live") as url,
    ):
        browser.open(url)
        browser.until(lambda: browser.text("#life") == "The training is over")
        assert run.wait() == 0
        last = [json.loads(line) for line in (out / "progress.jsonl").open()][-1]
        for width, dark in ((1280, False), (400, True)):
            browser.open(url, width, 900, dark)
            browser.until(lambda: "Iteration 4 of 4, after 2,600 steps" in browser.text("#window"))
            assert "holdfast/PointCircle-v0, algorithm cpo" in browser.text("#about")
            cells = browser.run("return document.querySelector('#numbers tbody tr:nth-child(2)')"
                                ".innerText.split('\\t')")  # fmt: skip
            assert cells[0] == "outside_corridor"
            assert float(cells[1]) == pytest.approx(last["costs"]["outside_corridor"], rel=0.005)
            assert float(cells[3]) == last["limits"]["outside_corridor"]
            assert browser.overflow() == []
            assert browser.complaints() == []
        browser.run("const s = document.querySelector('#seek'); s.value = 0; s.oninput();")
        assert "Iteration 1 of 4" in browser.text("#window")
