"""The robot's configuration file: strict, and each mistake named with its place."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.robot import plausible
from holdfast.safety_monitor.limits import BLOCKS, Limits
from tests.helpers.data.bundles import drive_contract


@pytest.fixture
def data():
    return yaml.safe_load(configs.find("drive").read_text())


def write(folder, data):
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_the_drive_robots_file_is_good():
    config = configs.load(configs.find("drive"))
    assert config.robot == "drive"
    assert isinstance(config.monitor, Limits)
    config.require_fit(drive_contract())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"proposal_wait_s": -0.1}, r"line \d+: proposal_wait_s should be above 0, received -0.1"),
        ({"proposal_wait_s": float("nan")}, r"proposal_wait_s should be a finite"),
        (
            {"registry": {"folder": "a\0b", "hardware_id": "drive-7"}},
            r"registry.folder should be a path, which holds no NUL character, received ",
        ),
        ({"ready_wait_s": "3"}, r"ready_wait_s should be a number, received '3'"),
        (
            {"familiarity": "warn"},
            "familiarity should be one of never, logged, always, rec",
        ),
        ({"robot": None}, "robot should be text, received null"),
        ({"speed": 1.0}, r"line \d+: unknown speed; known are robot"),
        ({"monitor": {}}, r"line \d+: monitor: missing motion, freshness, ladder, budget"),
    ],
)
def test_mistakes_are_named(tmp_path, data, changes, sentence):
    path = write(tmp_path, data | changes)
    with pytest.raises(ConfigError, match=sentence) as caught:
        configs.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(tmp_path, data):
    del data["command_valid_for_s"]
    with pytest.raises(ConfigError, match="missing command_valid_for_s"):
        configs.load(write(tmp_path, data))


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        configs.load(tmp_path / "nothing.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1,\nb")
    with pytest.raises(ConfigError, match="should be YAML") as caught:
        configs.load(tmp_path / "broken.yaml")
    assert "\n" not in str(caught.value)
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"empty\.yaml: missing robot"):
        configs.load(tmp_path / "empty.yaml")


@pytest.mark.parametrize("given", [True, 3, "halt"])
def test_words_that_may_be_chosen_are_listed(tmp_path, data, given):
    data["monitor"].setdefault("budget", {"episode_coverage": 0.95})["on_prediction"] = given
    words = "should be one of go_on, slow, recover, stop, received "
    with pytest.raises(ConfigError, match=f"on_prediction {words}"):
        configs.load(write(tmp_path, data))


def test_a_robot_without_a_file():
    with pytest.raises(ConfigError, match=r"there is no walker\.yaml .*--config"):
        configs.find("walker")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"robot": "walker"}, "configuration is of robot 'walker', the policy of 'drive'"),
        ({"proposal_wait_s": 0.05}, "proposal_wait_s 0.05 should be below"),
        ({"command_valid_for_s": 0.05}, "command_valid_for_s 0.05 should be above"),
    ],
)
def test_times_that_do_not_fit_the_period(tmp_path, data, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        configs.load(write(tmp_path, data | changes)).require_fit(drive_contract())


# Values that mean something, and are mistakes.


def changed(data, key, value):
    """Change one value of the monitor's section, by its place."""
    *path, name = key.split(".")
    part = data["monitor"]
    for step in path:
        part = part[step]
    part[name] = value
    return data


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("motion.standing_speed_m_s", 5.0, r"in \(0, 0.5\]"),
        ("motion.reaction_time_s", 200.0, r"in \[0, 2\]"),
        ("freshness.source_lost_s", 500.0, r"in \(0, 10\]"),
        ("freshness.future_tolerance_s", 20.0, r"in \[0, 0.5\]"),
        ("freshness.max_skipped", 10**6, r"in \[0, 10000\]"),
        ("ladder.fallback_max_s", 1500.0, r"in \[0, 60\]"),
        ("ladder.trigger_steps", 10**6, r"in \[1, 100\]"),
        ("envelope.tilt_rad", {"limited": 15.0, "stopped": 20.0}, r"in \(0, 1.5708\]"),
        ("envelope.tilt_rad", {"limited": 0.3, "stopped": 20.0}, r"in \(0, 1.5708\]"),
        ("envelope.yaw_rate_rad_s", {"limited": 60.0, "stopped": 60.0}, r"in \[-50, 50\]"),
        ("geofence.keep_in_m", [[-3e6, -3], [3e6, -3], [3, 3]], r"in \[-100000, 100000\]"),
        ("coasting.coasting_s", 1000.0, r"in \[0, 60\]"),
        ("consistency.heading_rad", 11.0, r"in \[-3.14159, 3.14159\]"),
        ("following.lag_s", 350.0, r"in \[0, 5\]"),
        ("frozen.pose_frozen_s", 400.0, r"in \[0, 60\]"),
    ],
)
def test_an_implausible_limit_of_the_monitor_is_refused(tmp_path, data, key, value, allowed):
    path = write(tmp_path, changed(data, key, value))
    sentence = rf"{key}\S* should be {allowed} to be plausible, received"
    with pytest.raises(ConfigError, match=sentence) as caught:
        configs.load(path)
    assert "\n" not in str(caught.value)


def test_every_value_of_a_robot_s_monitor_has_a_range():
    """Except those in the unit of a cost or of a channel, and shares, which have their own."""
    free = set()
    for kind, block in ((kind, name) for name, kind in BLOCKS.items()):
        keys = [f"{block}.{field.name}" for field in dataclasses.fields(kind)]
        free |= {key for key in keys if plausible._range(key) is None}
    assert free == {
        "motion.limited_scale", "budget.episode_coverage", "budget.slowdown_budget",
        "budget.on_prediction",
        "recovery.name", "recovery.parameters", "tracking.tracking_error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("freshness.source_max_age_s", 0.04, "source_max_age_s 0.04 should be above the contract"),
        ("freshness.proposal_max_age_s", 0.05, "proposal_max_age_s 0.05 should be above the con"),
        ("coasting.coasting_s", 50.0, "coasting_s 50 should be at most 12.5, as the contract"),
        ("frozen.pose_frozen_s", 13.0, "pose_frozen_s 13 should be at most 12.5, as the c"),
        ("tracking.tracking_s", {"limited": 1.0, "stopped": 20.0}, "tracking_s.stopped 20 should"),
        ("envelope.forward_speed_m_s", {"limited": 30.0, "stopped": 30.0},
         "forward_speed_m_s.limited 30 should be at most 10, 10 times what the contract commands"),
    ],
)  # fmt: skip
def test_limits_that_do_not_fit_the_contract(tmp_path, data, key, value, sentence):
    config = configs.load(write(tmp_path, changed(data, key, value)))
    with pytest.raises(ConfigError, match=sentence):
        config.require_fit(drive_contract())


# A file that extends another.


def extending(folder, name="robot", **data):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_a_file_says_what_differs_from_another(tmp_path):
    drive = configs.load(configs.find("drive"))
    assert configs.load(extending(tmp_path, extends="drive")) == drive
    path = extending(
        tmp_path,
        extends="drive",
        ready_wait_s=9.0,
        monitor={
            "freshness": {"max_skipped": 7},
            "geofence": None,
            "envelope": {"tilt_rad": None},
            "obstacles": {"footprint_radius_m": 0.5},
            "tracking": {"tracking_error": {"yaw_rate": 0.9}},
        },
        ros=None,
    )
    config = configs.load(path)
    assert (config.robot, config.ready_wait_s, config.ros) == ("drive", 9.0, None)
    assert config.monitor.freshness.max_skipped == 7
    assert config.monitor.freshness.source_lost_s == drive.monitor.freshness.source_lost_s
    checks = config.monitor.checks
    assert "geofence" not in checks
    assert checks["envelope"].tilt_rad is None
    assert checks["envelope"].yaw_rate_rad_s == drive.monitor.checks["envelope"].yaw_rate_rad_s
    assert checks["obstacles"].footprint_radius_m == 0.5
    assert checks["tracking"].tracking_error == {"forward_speed": 0.4, "yaw_rate": 0.9}


def test_a_list_takes_the_other_s_place(tmp_path):
    path = extending(tmp_path, extends="drive", ros={"frames": {"aligned": ["camera"]}})
    frames = configs.load(path).topics().frames
    assert (list(frames.aligned), frames.odom) == (["camera"], "odom")


def test_files_extend_one_another_by_their_paths(tmp_path):
    (tmp_path / "other").mkdir()
    extending(tmp_path / "other", "a", extends="drive", ready_wait_s=5.0, familiarity="never")
    extending(tmp_path / "other", "b", extends="./a.yaml", ready_wait_s=6.0)
    config = configs.load(extending(tmp_path, extends="other/b.yaml", proposal_wait_s=0.01))
    assert (config.ready_wait_s, config.proposal_wait_s) == (6.0, 0.01)
    assert config.familiarity == "never"


def test_a_mistake_is_named_where_it_is(tmp_path):
    extending(tmp_path, "a", extends="drive", ready_wait_s=-1.0)
    path = extending(tmp_path, extends="./a.yaml", ready_wiat_s=2.0)
    with pytest.raises(ConfigError) as caught:
        configs.load(path)
    sentence = "line 2: unknown ready_wiat_s; did you mean 'ready_wait_s'?"
    assert str(caught.value) == f"{path}: {sentence}"
    for misspelt in ("extend", "extens", "Extends"):
        path.write_text(f"robot: drive\n{misspelt}: drive\n")
        with pytest.raises(ConfigError) as caught:
            configs.load(path)
        sentence = f"line 2: unknown {misspelt}; did you mean 'extends'?"
        assert str(caught.value) == f"{path}: {sentence}"
    path.write_text("extends: ./a.yaml\nrobot: drive\n")
    with pytest.raises(ConfigError, match="line 2: ready_wait_s should be above 0") as caught:
        configs.load(path)
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml: ")


@pytest.mark.parametrize(
    ("extends", "sentence"),
    [
        ("walker", "line 1: extends: there is no walker.yaml in "),
        ("./walker.yaml", "walker.yaml: cannot be read (No such file or directory)"),
        (3, "line 1: extends: should name a file, received 3"),
        ("", "line 1: extends: should name a file, received ''"),
        (None, "line 1: extends: should name a file, received None"),
        (["drive"], "line 1: extends: should name a file, received ['drive']"),
        ("./robot.yaml", "line 1: extends: leads back to "),
        ("./loop.yaml", "loop.yaml: line 1: extends: leads back to "),
        ("./list.yaml", "list.yaml: should be a mapping, because "),
        ("./step_0.yaml", "line 1: extends: should lead to at most 8 files"),
    ],
)
def test_what_cannot_be_extended(tmp_path, extends, sentence):
    path = extending(tmp_path, extends=extends)
    extending(tmp_path, "loop", extends="./robot.yaml")
    (tmp_path / "list.yaml").write_text("- drive\n")
    for number in range(9):
        extending(tmp_path, f"step_{number}", extends=f"./step_{number + 1}.yaml")
    with pytest.raises(ConfigError) as caught:
        configs.load(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_as_many_files_as_may_be(tmp_path):
    extending(tmp_path, "step_6", extends="drive")
    for number in range(6):
        extending(tmp_path, f"step_{number}", extends=f"./step_{number + 1}.yaml")
    assert configs.load(tmp_path / "step_0.yaml") == configs.load(configs.find("drive"))
