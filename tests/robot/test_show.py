"""`holdfast show`: results and comparisons say what the logs hold, and no more than is evident."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.errors import LogError
from holdfast.log import writer as recorder
from holdfast.log.format import COMPLETED, STOPPED, EpisodeResult
from holdfast.log.reader import read
from holdfast.log.writer import Recorder
from holdfast.robot.view import compare as comparing
from holdfast.robot.view.compare import BETTER, OPEN, WORSE, compare, holm, permutation_p, planned
from holdfast.robot.view.results import Results, results, rows, told_apart
from tests.helpers.data.bundles import drive_contract
from tests.helpers.data.recordings import info, tick
from tests.helpers.web import logs

NAME = "outside_corridor"


def run_of(folder, name, costs, stopped=(), returns=None, **changes) -> Results:
    """A run with these costs, episode by episode."""
    log = Recorder(folder / name, info(run=name, **changes))
    for number, cost in enumerate(costs):
        for step in range(3):
            one = tick(number, step, final=step == 2)
            log.step(dataclasses.replace(one, log_prob=float(sum(name.encode()))))  # no copy
        cut = number in stopped
        end = (STOPPED, logs.CODE, logs.SENTENCE) if cut else (COMPLETED, "", "")
        earned = None if returns is None else returns[number]
        log.episode(0.0, EpisodeResult(number, 2, (float(cost),), 0, 0, *end, earned))
    log.close()
    return results(read(folder / name))


def verdicts(a, b):
    return {each.name: each for each in compare(a, b)}


def test_results_are_those_of_the_log(tmp_path):
    logs.record(tmp_path / "run", logs.with_scan()).close()
    log = read(tmp_path / "run")
    cells = rows(results(log))
    mean = np.mean([episode.result.costs[0] for episode in log.episodes])
    assert cells[f"{NAME}, limit d 10"].startswith(f"{mean:.4g} [")
    assert cells["reward return"] == "60 [60, 60]"
    assert cells["episodes"] == "2"
    assert cells["completed"] == "1 of 2"
    assert cells["stopped by outside_geofence"] == "1"
    assert cells["interventions"] == "6 (2.5% of steps)"
    assert cells["rate of the loop"] == "20.00 Hz"
    assert cells["age of the reading of lidar, 99 %"] == "30.0 ms"


def test_a_log_without_every_return_says_so(tmp_path):
    assert rows(run_of(tmp_path, "none", [1, 2]))["reward return"] == "not logged"
    one = run_of(tmp_path, "one", [1, 2], returns=[3.0, None])
    assert rows(one)["reward return"] == "not logged"


def test_one_episode_has_no_interval(tmp_path):
    assert rows(run_of(tmp_path, "run", [7]))[f"{NAME}, limit d 10"] == "7"


def test_a_log_without_an_episode_is_shown(tmp_path, capsys):
    Recorder(tmp_path / "run", info()).close()
    assert main(["show", str(tmp_path / "run")]) == 0
    assert "0 of 0" in capsys.readouterr().out
    assert (tmp_path / "run" / "show.html").is_file()


def test_a_torn_log_is_shown_up_to_the_tear(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_CHUNK", 3000)
    log = logs.record(tmp_path / "run")
    log.close()
    data = log.path.read_bytes()
    log.path.write_bytes(data[: 2 * len(data) // 3])
    assert main(["show", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "torn" in out
    assert "without an end in the log" in out


def test_what_a_log_says_commands_no_terminal(tmp_path, capsys):
    end = EpisodeResult(0, 1, (0.0,), 0, 0, STOPPED, "\x1b[2Jcode[red]", "\x1b]0;title\x07")
    log = Recorder(tmp_path / "run", info(run="\x1b[31mrun[/x]"))
    log.step(tick(0, 0))
    log.step(tick(0, 1, final=True))
    log.episode(0.0, end)
    log.close()
    assert main(["show", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "code[red]" in out


def test_a_hostile_log_is_shown_and_is_no_evidence(tmp_path, capsys):
    """A cost that is no number is neither more nor less than another, so none is compared."""
    log, page = logs.hostile(tmp_path / "run"), tmp_path / "page.html"
    log.close()
    assert main(["show", str(tmp_path / "run"), "--out", str(page)]) == 0
    assert "not finite" in capsys.readouterr().out
    assert "nan" not in page.read_text()
    odd, other = run_of(tmp_path, "odd", [np.nan, 2, 3]), run_of(tmp_path, "other", [9, 8, 9])
    with pytest.raises(LogError, match="costs should be finite to be compared"):
        compare(other, odd)


@pytest.mark.parametrize(
    "fence",
    [
        {"keep_in_m": [[0, 0], [1, 0], [1, 1]], "keep_out_m": 5},
        {"keep_in_m": [], "keep_out_m": [[]]},
        {"keep_in_m": [[0, 0], [1, 0], [1, 1e300]]},
        [1, 2],
    ],
    ids=str,
)
def test_a_foreign_fence_is_not_drawn_and_that_is_said(tmp_path, fence):
    logs.record(tmp_path / "run", logs.drive_info(limits={"geofence": fence})).close()
    assert main(["show", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "show.html").read_text()
    assert "geofence has an unknown form, and is not drawn" in text
    assert 'class="fence"' not in text
    assert 'class="free"' in text  # the paths are
    logs.record(tmp_path / "own").close()
    assert main(["show", str(tmp_path / "own")]) == 0
    text = (tmp_path / "own" / "show.html").read_text()
    assert "unknown form" not in text
    assert 'class="fence"' in text


def test_a_narrow_terminal_breaks_no_word(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    a, b = run_of(tmp_path, "a", [3] * 10), run_of(tmp_path, "b", [3] * 12)
    assert main(["show", "--compare", str(a.log.path), str(b.log.path)]) == 0
    said = capsys.readouterr().out.split()
    titles = [
        word
        for line in comparing.table(compare(a, b), "a", "b")
        for text in line
        for word in text.split()
    ]
    assert set(titles) <= set(said)


def test_a_clearly_cheaper_run_is_better_and_the_other_way_round_worse(tmp_path):
    rng = np.random.default_rng(0)
    a = run_of(tmp_path, "a", rng.poisson(15, 40))
    b = run_of(tmp_path, "b", rng.poisson(8, 40))
    assert verdicts(a, b)[NAME].verdict == BETTER
    assert verdicts(b, a)[NAME].verdict == WORSE
    assert "b is better than a" in comparing.answer(compare(a, b), "a", "b")
    assert "a is worse than b" in comparing.answer(compare(b, a), "b", "a")


def test_no_difference_is_no_evidence(tmp_path):
    a, b = run_of(tmp_path, "a", [3] * 10), run_of(tmp_path, "b", [3] * 12)
    assert {each.verdict for each in compare(a, b)} == {OPEN}
    assert "No difference was seen at all" in comparing.answer(compare(a, b), "a", "b")


def test_a_run_does_not_look_cheaper_for_having_been_stopped(tmp_path):
    """Each of B's episodes was cut short before it could cost much."""
    a = run_of(tmp_path, "a", [9, 10, 11, 10] * 10)
    b = run_of(tmp_path, "b", [1, 0, 2, 1] * 10, stopped=range(40))
    found = verdicts(a, b)
    assert found[NAME].mean_b < found[NAME].mean_a
    assert found[NAME].verdict != BETTER
    assert found["share of episodes cut short"].verdict == WORSE


def test_a_run_does_not_look_richer_for_having_been_stopped(tmp_path):
    """Where rewards are negative a short episode loses less."""
    whole, short = [-100.0, -90.0] * 10, [-5.0, -4.0] * 10
    a = run_of(tmp_path, "a", [1, 2] * 10, returns=whole)
    b = run_of(tmp_path, "b", [1, 2] * 10, stopped=range(20), returns=short)
    assert verdicts(a, b)["reward return"].verdict != BETTER
    assert verdicts(b, a)["reward return"].verdict != WORSE


def test_returns_are_compared_where_both_logs_have_them(tmp_path):
    a = run_of(tmp_path, "a", [1, 2] * 15, returns=[5.0, 6.0, 7.0] * 10)
    b = run_of(tmp_path, "b", [1, 2] * 15, returns=[8.0, 9.0, 10.0] * 10)
    assert verdicts(a, b)["reward return"].verdict == BETTER
    assert "reward return" not in verdicts(a, dataclasses.replace(b, returns=None))


def test_a_better_return_at_a_higher_cost_is_neither(tmp_path):
    a = run_of(tmp_path, "a", [1, 2] * 15, returns=[5.0, 6.0, 7.0] * 10)
    b = run_of(tmp_path, "b", [11, 12] * 15, returns=[8.0, 9.0, 10.0] * 10)
    assert "neither better nor worse" in comparing.answer(compare(a, b), "a", "b")


@pytest.mark.parametrize("sizes", [(20, 20), (10, 40)])
def test_the_test_is_wrong_as_rarely_as_it_says(sizes, monkeypatch):
    """One-sided at 2.5 %, for skewed costs; of unequal spread: benchmarks/comparisons.py."""
    monkeypatch.setattr(comparing, "PERMUTATIONS", 1000)
    rng = np.random.default_rng(0)
    found = [
        permutation_p(rng.gamma(2.0, 5.0, sizes[0]), rng.gamma(2.0, 5.0, sizes[1])) < 0.025
        for _ in range(400)
    ]
    assert np.mean(found) < 0.05


def test_as_many_episodes_as_are_said_to_be_needed_are_enough(monkeypatch):
    monkeypatch.setattr(comparing, "PERMUTATIONS", 1000)
    rng = np.random.default_rng(1)
    needed, _ = planned(rng.normal(0, 2, 4000), rng.normal(1, 2, 4000), 0.05)
    assert needed is not None
    shown = [
        permutation_p(rng.normal(0, 2, needed), rng.normal(1, 2, needed)) < 0.025
        for _ in range(300)
    ]
    assert 0.7 < np.mean(shown) < 0.9


def test_holm_s_own_example():
    """Holm (1979): the least p counts as many times as there are tests, and none decreases."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_other_contracts_and_too_few_episodes_are_refused(tmp_path):
    a = run_of(tmp_path, "a", [1, 2, 3])
    other = run_of(tmp_path, "other", [1, 2], contract=drive_contract(episode_steps=200))
    with pytest.raises(LogError, match="should have one contract"):
        compare(a, other)
    cheap = dataclasses.replace(drive_contract().costs[0], limit=5.0, episode_cap=15.0)
    stricter = run_of(tmp_path, "stricter", [1, 2], contract=drive_contract(costs=(cheap,)))
    with pytest.raises(LogError, match=r"DriveCircle-v0, d = 10\) and \w+ \(.*, d = 5\)"):
        compare(a, stricter)
    with pytest.raises(LogError, match="at least 2 episodes to be compared, received 1"):
        compare(a, run_of(tmp_path, "one", [1]))


def test_runs_that_are_called_alike_are_told_apart(tmp_path, capsys):
    for place, cost in (("first", 10), ("second", 2), ("other/second", 5)):
        run_of(tmp_path / place, "log", [cost, cost + 1] * (5 + cost), seed=cost)
    paths = [str(tmp_path / place / "log") for place in ("first", "second", "other/second")]
    page = tmp_path / "page.html"
    assert main(["show", "--compare", *paths[:2], "--out", str(page)]) == 0
    assert "second/log is better than first/log in" in capsys.readouterr().out
    assert "<title>first/log and second/log" in page.read_text()
    above = tmp_path.name
    assert main(["show", *paths, "--out", str(page)]) == 0
    assert f"<title>first/log and {above}/second/log and other/second/log" in page.read_text()
    names = [each.name for each in told_apart([results(read(paths[0]))] * 2)]
    assert [name.removeprefix(f"{str(tmp_path)[1:]}/") for name in names] == [
        "first/log (1)",
        "first/log (2)",
    ]


def test_the_command_compares_and_writes_the_page(tmp_path, capsys):
    a = run_of(tmp_path, "a", [9, 10, 11, 10] * 5).log.path
    b = run_of(tmp_path, "b", [1, 2, 3, 2] * 5).log.path
    page = tmp_path / "page.html"
    assert main(["show", "--compare", str(a), str(b), "--out", str(page)]) == 0
    assert "b is better than a in outside_corridor" in capsys.readouterr().out
    text = page.read_text()
    assert "b is better than a" in text
    assert "<script" not in text
    assert main(["show", "--compare", str(a), str(a), "--out", str(page)]) == 1
    assert "the same run" in capsys.readouterr().err
    assert main(["show"]) == 1
    assert "which run?" in capsys.readouterr().err
