"""The robot's configuration file: strict, and each mistake named with its place."""

from __future__ import annotations

import pytest
import yaml

from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.safety_monitor.limits import Limits
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
        ({"proposal_wait_s": float("nan")}, r"proposal_wait_s: should be a finite"),
        ({"ready_wait_s": "3"}, r"ready_wait_s should be a number, received '3'"),
        (
            {"familiarity": "warn"},
            "familiarity should be one of never, logged, always, rec",
        ),
        ({"robot": None}, "robot should be text, received None"),
        ({"speed": 1.0}, r"line \d+: unknown speed; known are robot"),
        ({"monitor": {}}, r"line \d+: monitor: missing source_max_age_s"),
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
