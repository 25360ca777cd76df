"""A user's own robot and task, from training to fine-tuning: found again, or missed plainly."""

import json
import shutil
from pathlib import Path

import pytest

from holdfast.bundle import reader as bundle
from holdfast.cli import main
from holdfast.log.writer import Recorder
from holdfast.policy.learn.learner import Learner
from holdfast.policy.models import checkpoint
from holdfast.policy.ship.export import checkpoint_of
from holdfast.policy.train import CHECKPOINT
from holdfast.robot.run.assembly import assemble
from holdfast.sim.file_task_spec import moved
from holdfast.sim.registry import resolve
from tests.helpers.data.recordings import info, record_episode

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = [
    "train",
    "--task",
    "mine/car.py:CarLaps",
    "--batch",
    "400",
    "--critic-steps",
    "2",
    "--out",
    "run",
]
EXPORT = f"export --checkpoint run/{CHECKPOINT} --out run/policy.onnx --episodes 10".split()
EXPORT += ["--anyway", "--task", "mine/car.py:CarLaps"]
VERIFY = ["verify", "--policy", "run/policy.onnx", "--robot", "car"]
VERIFY += ["--task", "mine/car.py:CarLaps"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the example and what one iteration of training on it wrote."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(EXAMPLES, folder / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*TRAIN, "--iterations", "1"]) == 0
        assert main(EXPORT) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """The same, to be changed."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(folder, before, after):
    file = folder / "mine" / "car.py"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def test_verify_finds_the_task_again(folder):
    assert main(VERIFY) == 0
    held = bundle.load(folder / "run" / "policy.onnx")
    assert held.provenance["settings"]["task"] == "../mine/car.py:CarLaps"  # from the bundle
    assert str(folder) not in json.dumps(held.provenance)  # where it lay is nobody's business
    assert held.contract.robot == "car"


def stored(path):
    return checkpoint.load(path)[1]["settings"]["task"]


def test_a_folder_that_moved_is_found_again(trained, tmp_path, monkeypatch, capsys):
    """The task's path is told from the checkpoint, wherever both lie, and is not run by itself."""
    shutil.copytree(trained, tmp_path / "far" / "away")
    monkeypatch.chdir(tmp_path)
    line = ["train", "--out", "far/away/run", "--resume", "--iterations", "2"]
    assert main(line) == 1
    said = capsys.readouterr().err
    assert "'far/away/mine/car.py:CarLaps'; code that a file names is not run" in said
    assert main([*line, "--task-file", "far/away/mine/car.py"]) == 0
    assert stored(tmp_path / "far/away/run" / CHECKPOINT) == "../mine/car.py"


def test_a_file_that_moved_is_named_again(folder, capsys):
    """By resume, export and verify, with a name or without; copies name it from where they lie."""
    (folder / "mine").rename(folder / "other")
    (folder / "other" / "car.py").rename(folder / "other" / "place.py")
    resume = [*TRAIN[:1], *TRAIN[3:], "--resume"]
    for iterations, named in (("2", "other/place.py"), ("3", "other/place.py:CarLaps")):
        assert main([*resume, "--iterations", iterations, "--task", named]) == 0
        assert stored(folder / "run" / CHECKPOINT) == f"../{named}"
    export = ["export", "--checkpoint", f"run/{CHECKPOINT}", "--episodes", "10", "--anyway"]
    assert main([*export, "--out", "a/b/policy.onnx", "--task-file", named]) == 0
    assert stored(checkpoint_of(folder / "a/b/policy.onnx")) == f"../../{named}"
    capsys.readouterr()
    assert main(["verify", "--policy", "a/b/policy.onnx", "--task-file", "other/place.py"]) == 0
    assert "ok      reproducible" in capsys.readouterr().out


def test_a_file_with_several_tasks_needs_a_name(folder, capsys):
    file = folder / "mine" / "car.py"
    file.write_text(file.read_text() + "\n\nclass Other(CarLaps):\n    pass\n")
    assert main(["train", "--out", "new", "--task-file", "mine/car.py"]) == 1
    assert capsys.readouterr().err == (
        "holdfast: mine/car.py: the task should be given as FILE.py:NAME; its tasks are CarLaps, "
        "Other\n"
    )


@pytest.mark.parametrize(
    ("task", "there"),
    [
        ("mine/car.py:CarLaps", "../mine/car.py:CarLaps"),
        ("gym:mine/pend.py:Fast-v0", "gym:../mine/pend.py:Fast-v0"),
        ("car.py", "../car.py"),
        ("gym:module:Fast-v0", "gym:module:Fast-v0"),
        ("holdfast/DriveCircle-v0", "holdfast/DriveCircle-v0"),
    ],
)
def test_a_path_is_told_from_another_folder_and_back(task, there):
    assert moved(task, Path(), Path("runs")) == there
    assert moved(there, Path("runs"), Path()) == task


def test_training_goes_on(folder):
    assert main([*TRAIN, "--iterations", "2", "--resume"]) == 0
    learner = Learner.load(folder / "run" / CHECKPOINT, resolve("mine/car.py:CarLaps"))
    assert learner.iteration == 2


def test_the_example_s_configuration_is_the_car_s(folder):
    made = assemble(folder / "run" / "policy.onnx", folder / "mine" / "car.yaml", (), None)
    assert made.monitor.contract.task == "example/CarLaps-v0"


def test_what_it_did_is_learned_from(folder, capsys):
    """On a log of its contract, in whose records everything can be told from the step's number."""
    made_by = bundle.load(folder / "run" / "policy.onnx")
    contract = made_by.contract
    said = info(contract=contract, bundle_hash=made_by.hash, episode_cap={"outside": 15.0})
    recorder = Recorder(folder / "log", said)
    for episode in range(3):
        record_episode(recorder, episode, 20, made_by, code="interrupted")
    recorder.close()
    line = ["finetune", "--policy", "run/policy.onnx", "--log", "log", "--out", "child.onnx"]
    assert main([*line, "--steps", "1", "--task", "mine/car.py:CarLaps"]) == 0
    child = bundle.load(folder / "child.onnx")
    learned = child.provenance["finetune"]
    after, target = learned["costs_after"]["outside"], learned["targets"]["outside"]
    bound = learned["settings"]["bound"]
    missed = after["mean"] + bound * after["error"] > target
    end = f"standard error{', not met' if missed else ''})\n"
    assert end in capsys.readouterr().out
    assert child.contract.hash == contract.hash
    assert child.provenance["settings"]["task"] == "mine/car.py:CarLaps"
    held = checkpoint.load(checkpoint_of(folder / "child.onnx"))[1]
    assert held["settings"]["task"] == "mine/car.py:CarLaps"  # the child lies beside the folder


@pytest.mark.parametrize(
    "line",
    [
        [*TRAIN[:-1], "new", "--iterations", "1"],
        [*TRAIN, "--iterations", "2", "--resume"],
        EXPORT,
        VERIFY,
    ],
    ids=["train", "resume", "export", "verify"],
)
def test_a_command_runs_the_file_once(folder, line):
    file = folder / "mine" / "car.py"
    file.write_text(file.read_text() + "\nwith open('runs', 'a') as mark:\n    mark.write('x')\n")
    assert main(line) == 0
    assert (folder / "runs").read_text() == "x"


@pytest.mark.parametrize("line", [EXPORT, [*TRAIN, "--resume"]], ids=["export", "train"])
def test_a_file_that_is_gone_is_named(folder, capsys, line):
    before = (folder / "run" / CHECKPOINT).read_bytes()
    (folder / "mine" / "car.py").unlink()
    assert main(line) == 1
    said = capsys.readouterr().err
    assert said == f"holdfast: there is no file mine/car.py, looked for from {folder}\n"
    assert (folder / "run" / CHECKPOINT).read_bytes() == before


def test_verify_says_what_it_could_and_could_not_check(folder, capsys):
    (folder / "mine" / "car.py").unlink()
    assert main(VERIFY) == 1
    assert capsys.readouterr().err.startswith("holdfast: there is no file mine/car.py")
    assert main([*VERIFY[:-2], "--task", "example/CarLaps-v0"]) == 1
    out = capsys.readouterr().out
    assert "ok      parity" in out
    assert "refused reproducible: checkpoint" in out
    assert "was trained on a task that is no part of Holdfast, 'mine/car.py:CarLaps'; code" in out


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ("abs(position.x) > 1.0", "abs(position.x) > 2.0", "costs"),
        ("period_s = 0.05", "period_s = 0.1", "period_s, reward"),
        ('ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),', "", "observation"),
        ('"steering", "rad", -0.5, 0.5', '"steering", "rad", -0.4, 0.4', "action"),
        ("200,  # steps", "100,  # steps", "episode_steps"),
    ],
)
@pytest.mark.parametrize("line", [EXPORT, [*TRAIN, "--resume"]], ids=["export", "train"])
def test_a_contract_that_changed_is_refused(folder, capsys, line, before, after, differs):
    change(folder, before, after)
    assert main(line) == 1
    assert capsys.readouterr().err == (
        "holdfast: mine/car.py:CarLaps: its contract is not the one that the policy was trained "
        f"under; what differs is {differs}\n"
    )


def test_a_faulty_task_is_refused_before_training(folder, capsys):
    change(folder, "return np.stack((left", "return np.stack((left, left")
    assert main([*TRAIN[:-1], "other"]) == 1
    assert capsys.readouterr().err == (
        "holdfast: example/CarLaps-v0: control should have shape (5, 4), received (5, 5)\n"
    )
    assert not (folder / "other").exists()


def test_a_limit_of_one_s_own_is_the_policy_s(folder):
    assert main([*TRAIN[:-1], "limited", "--limit", "2", "--iterations", "1"]) == 0
    networks, _ = checkpoint.load_networks(folder / "limited" / CHECKPOINT)
    (cost,) = networks.contract.costs
    assert (cost.limit, cost.episode_cap) == (2.0, 6.0)
