"""A run plan keeps to the contract, and its motion tells what it promises."""

import csv

import numpy as np
import pytest

from holdfast import cli
from holdfast.errors import ConfigError
from holdfast.policy.excite import planned_seconds
from holdfast.policy.identification.csv_file import from_csv
from holdfast.policy.identification.identify import identify
from holdfast.policy.identification.plan import (
    Experiment,
    draw_up,
    in_least_space,
    known_of,
    select,
)
from holdfast.policy.identification.search import SearchSettings
from holdfast.policy.identification.segments import SEGMENT_S, admitted, candidates
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import registered
from tests.helpers.robots.driven import driven
from tests.helpers.robots.parameters import parameters

TASK = "DriveCircle-v0"
WHEELS = "size:left_tyre+right_tyre"
WORDS = (WHEELS, "mass", "friction", "gain", "delay")
NOISE = {
    **{"position": 0.01, "heading": 0.01, "joint_position": 0.01},
    **{"forward_speed": 0.02, "yaw_rate": 0.02},
}
GAP = {
    "size": {"left_tyre": 1.08, "right_tyre": 1.08},
    "mass": 1.3,
    "friction": 0.7,
    "gain": 0.95,
    "delay": 2,
    "noise": NOISE,
}
TRUE = {WHEELS: 1.08, "mass": 1.3, "friction": 0.7, "gain": 0.95, "delay": 2.0}
COMMANDS = ("command.forward_speed", "command.yaw_rate")
QUICK = SearchSettings(candidates=16, generations=8, search_s=25.0)


def by_name(found):
    return {each.free.name: each for each in found}


def experiment(*words, profile=None, signals=()):
    task = registered(TASK).make()
    return Experiment(task, words, signals, "known", profile or Parameters(), QUICK)


def constant(contract):
    """Return motions as long as those of a plan, straight ahead at one speed."""
    wanted = np.zeros((10, round(SEGMENT_S / contract.period_s), contract.action_size))
    wanted[:, :90, 0] = 0.4
    return np.stack([admitted(contract, each) for each in wanted])


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A plan of a minute, as a user has it drawn up."""
    out = tmp_path_factory.mktemp("plan") / "plan.csv"
    line = ["identify", "--excite", "--task", TASK, "--parameters", *WORDS]
    assert cli.main([*line, "--out", str(out)]) == 0
    return out


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def commands(path):
    return np.array([[float(row[name]) for name in COMMANDS] for row in table(path)])


def test_a_plan_keeps_to_limits_and_rates(plan):
    contract, rows = registered(TASK).make().contract, table(plan)
    told = commands(plan)
    assert (told >= contract.action_low - 1e-6).all()
    assert (told <= contract.action_high + 1e-6).all()
    assert (np.abs(np.diff(told, axis=0, prepend=0.0)) <= contract.action_max_step + 1e-6).all()
    time = np.array([float(row["time"]) for row in rows])
    np.testing.assert_allclose(np.diff(time), contract.period_s, atol=1e-9)
    assert len(rows) == 1200
    assert np.abs(told).max(axis=0) == pytest.approx(contract.action_high)


def test_motions_end_at_rest(plan):
    rows = table(plan)
    for episode in range(10):
        last = [row for row in rows if row["episode"] == str(episode)][-20:]
        assert all(float(v) == 0.0 for row in last for k, v in row.items() if k[:8] == "command.")


def test_the_page_states_what_is_expected(plan):
    page = plan.with_suffix(".html").read_text()
    assert "stays within" in page
    assert WHEELS in page
    assert page.count("<svg") == 1
    assert "<script" not in page


@pytest.fixture(scope="module")
def expected(plan):
    """What a plan, and a run at one speed, are expected to tell."""
    made = experiment(*WORDS)
    shape = (10, -1, made.task.contract.action_size)
    motions = (commands(plan).reshape(shape), constant(made.task.contract))
    return [by_name(made.expected(each)) for each in motions]


def identified(path, folder):
    """Drive a twin by a file, bring its motion home as a CSV file, and identify it."""
    run = driven(TASK, GAP, path, folder / "run.csv")
    motion = from_csv([run], registered(TASK).make())
    return by_name(identify(motion, WORDS, (), "known", None, QUICK).found)


@pytest.fixture(scope="module")
def found(plan):
    return identified(plan, plan.parent)


def test_more_is_expected_of_a_plan_than_of_one_speed(expected):
    planned, one_speed = expected
    assert all(each.known for each in planned.values())
    assert not one_speed["friction"].known
    for name in ("mass", "friction", WHEELS):
        assert planned[name].spread < 0.7 * one_speed[name].spread


def test_what_a_plan_tells_is_found_in_its_motion(found, expected):
    """The spreads are those of a robot like the model, which this twin is not."""
    for name, value in TRUE.items():
        assert found[name].known
        assert abs(found[name].value - value) <= 6.0 * expected[0][name].spread


def test_one_speed_tells_less(plan, found, tmp_path):
    """Driven for as long at one speed, the twin tells less, as the plan says before."""
    rows, contract = table(plan), registered(TASK).make().contract
    same = tmp_path / "constant.csv"
    with same.open("w") as file:
        written = csv.DictWriter(file, rows[0])
        written.writeheader()
        for row, told in zip(rows, constant(contract).reshape(-1, 2).tolist(), strict=True):
            written.writerow({**row, **dict(zip(COMMANDS, told, strict=True))})
    less = identified(same, tmp_path)
    assert not less["friction"].known
    missed, hit = (abs(each["friction"].value - TRUE["friction"]) for each in (less, found))
    assert missed > 10.0 * hit
    assert less["mass"].spread > 2.0 * found["mass"].spread


def test_a_plan_for_a_delay_alone():
    plan = draw_up(experiment("delay", signals=("position", "yaw_rate")), 12.0)
    assert plan.actions.shape == (2, 120, 2)
    (delay,) = plan.expected
    assert (delay.known, delay.value, delay.spread) == (True, 0.0, 0.0)


def test_a_plan_is_made_about_what_is_known():
    """A profile's values are planned about, its noise is what is expected, and both matter."""
    known = parameters(mass=2.0, delay=2, gain={"each": 0.9}, noise={"position": 0.1})
    made = experiment("mass", "gain:left_motor", "delay", profile=known, signals=("position",))
    values = [each.value(float(z)) for each, z in zip(made.free, made.place, strict=True)]
    assert values == pytest.approx([2.0, 0.9, 2.0])
    assert made.noise == {"position": 0.1}
    _, actions = candidates(made.task.contract, 0)
    nominal = experiment("mass", "gain:left_motor", "delay", signals=("position",))
    noisy, usual = (
        each.informations(actions[:8]).trace(axis1=1, axis2=2) for each in (made, nominal)
    )
    assert noisy.sum() < 0.2 * usual.sum()


def test_motions_are_chosen_for_what_the_others_lack():
    one, other = np.diag([100.0, 1.0]), np.diag([1.0, 60.0])
    assert select(np.stack([one, one, other]), 2).tolist() == [0, 2]
    assert sorted(select(np.stack([one, other]), 5).tolist()) == [0, 0, 0, 1, 1]


def test_the_order_keeps_near_the_start():
    ahead = np.stack((np.linspace(0.0, 1.0, 5), np.zeros(5)), axis=1)
    position = np.stack([ahead, ahead, -ahead, -ahead])
    order = in_least_space(position, np.zeros((4, 5)), 0)
    steps = np.cumsum(position[order, -1, 0])
    assert np.abs(steps).max() == 1.0
    turned = np.zeros((2, 5))
    turned[0, -1] = np.pi
    assert in_least_space(position[:2], turned, 0).tolist() == [0, 1]


def test_a_robot_that_falls_is_refused():
    made = experiment("gain:each")
    made.task.robot.fallen = lambda signals: np.ones(signals["position"].shape[:-1], dtype=bool)
    with pytest.raises(ConfigError, match="robot drive falls, or its simulation diverges, in each"):
        draw_up(made, 12.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--excite",), "task should be given with --excite"),
        (("--excite", "--task", TASK, "--log", "run"), "log should be left out with --excite"),
        (("--excite", "--task", TASK, "--first-s", "1"), "first-s should be left out"),
        (("--excite", "--task", TASK, "--any-robot"), "any-robot should be left out"),
        (("--excite", "--task", TASK, "--seconds", "5"), "seconds should be 12 to 600, received 5"),
        (("--excite", "--task", TASK, "--signals", "scan"), "'scan' should be in the recording"),
        (("--excite", "--task", TASK, "--parameters", "masss"), "did you mean 'mass'"),
        (("--excite", "--task", TASK, "--profile", "none.yaml"), "none.yaml: cannot be read"),
        (("--log", "run", "--seconds", "60"), "seconds should be given with --excite"),
        (("--log", "run", "--profile", "x.yaml"), "profile should be given with --excite"),
        ((), "log should name runs or CSV files; or give --excite"),
        (("--log", "run", "--out", "x.html"), "out should not end in .html"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["identify", *options]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_profile_of_another_robot_is_refused(tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text("gain: {motor_a: 0.9}\n")
    with pytest.raises(ConfigError, match=r"profile.yaml: gain: there is no actuator 'motor_a'"):
        known_of(path, registered(TASK).make())


def test_a_length_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="received nan"):
        planned_seconds(float("nan"))
