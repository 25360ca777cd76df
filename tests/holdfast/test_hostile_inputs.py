"""No traceback for anything that a file or a user can do: each command is fed mutated inputs.

Each input ends in a known exit status, with one sentence where it is refused. HOLDFAST_MUTATIONS
says how many inputs each command and kind gets; with 200 it takes some ten minutes.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors import safe_open

from holdfast.cli import COMMANDS, main
from holdfast.log.writer import Recorder
from holdfast.policy.demo import report
from holdfast.registry import signing
from holdfast.registry.signing import PrivateKey
from holdfast.robot import config as configs
from holdfast.robot.run.deployment import Deployment
from holdfast.safety_monitor.evidence import Evidence
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.data.foreign import SIZE, contract, saved, small
from tests.helpers.data.mutations import WORDS, mutated_bytes, mutated_plain, paths
from tests.helpers.data.recordings import info, record_episode

COUNT = int(os.environ.get("HOLDFAST_MUTATIONS", "12"))
pytestmark = pytest.mark.timeout(120 + 20 * COUNT)

WALL_S, CPU_S = 60.0, 10.0
"""A refusal takes no longer, and not so much of the processor, whatever else the machine does."""

WORKS_S, WORKS_CPU_S = 1.0, 0.3
"""An input that is good is at work until this has passed, or the processor was used for so long,
and is then interrupted."""

AGAIN_S = 5.0
"""After this it is interrupted again, as an exception in a destructor is lost."""

ALARMS = {signal.ITIMER_REAL: signal.SIGALRM, signal.ITIMER_PROF: signal.SIGPROF}

AT_WORK = (
    *("train", "demo", "twin", "reproduce", "deploy", "identify", "finetune", "improve"),
    *("export", "report", "watch", "logs"),  # logs / looks through the whole disk
)
SMALL = ["--task", "PointCircle-v0", "--batch", "65", "--iterations", "1", "--critic-steps", "1"]


class TookTooLong(BaseException):
    """Not an Exception, so that nothing that is tested takes it for its own."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one good file of each kind."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["train", *SMALL, "--out", str(folder / "train")]) == 0
    checkpoint = str(folder / "train" / "checkpoint.safetensors")
    exported = ["--anyway", "--episodes", "8", "--out", str(folder / "exported.onnx")]
    assert main(["export", "--checkpoint", checkpoint, *exported]) == 0
    write_bundle(folder / "policy.onnx")
    log = Recorder(folder / "run", info())
    for episode in range(2):
        record_episode(log, episode, steps=6)
    log.close()
    progress = (folder / "train" / "progress.jsonl").read_text()
    demo = folder / "demo"
    demo.mkdir()
    (demo / "progress.jsonl").write_text(progress.replace("point_outside", "outside_corridor"))
    (folder / "run").rename(demo / "run")
    row = {
        "episodes": 2, "return": {"mean": 1.0, "low": 0.0, "high": 2.0},
        "costs": {"outside_corridor": {"mean": 3.0, "low": 3.0, "high": 3.0}},
        "stopped": 0, "steps": 12, "interventions": 0, "deadline_misses": 0,
        "episode_cap": [30.0],
    }  # fmt: skip
    table = [["parameter", "value"], ["mass", "1.2"]]
    reason = {"what": "episodes", "found": "2", "wanted": "at least 10", "answer": "reject"}
    summary = {
        "format": report.FORMAT, "seed": 0, "limits": {"outside_corridor": 10.0},
        "gap": {"mass": 1.2}, "outcome": report.REJECTED,
        "rows": dict.fromkeys(("simulator", "before", "control", "after"), row),
        "identified": {"parameters": table, "errors": table},
        "gate": {"answer": "reject", "reasons": [reason]},
        "bundles": {"before": "b", "after": "b"}, "progress": "progress.jsonl",
        "runs": {"before": "run", "after": "run"},
        "steps": [{"step": "train", "wall_s": 1.0, "cpu_s": 1.0, "gave": "a policy"}],
        "seconds": {"wall": 1.0, "processor": 1.0},
    }  # fmt: skip
    (demo / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def feed(tmp_path, monkeypatch, capsys):
    """Run a command in this process, in an empty folder; fail unless it ends as it may."""
    monkeypatch.chdir(tmp_path)

    def run(arguments: list[str]) -> int:
        name = arguments[0]
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def late(*_: object) -> None:
            if name in AT_WORK and time.monotonic() - began_s < WALL_S:
                raise KeyboardInterrupt
            raise TookTooLong

        for alarm in ALARMS.values():
            signal.signal(alarm, late)
        began_s = time.monotonic()
        try:
            try:
                wall_s, cpu_s = (WORKS_S, WORKS_CPU_S) if name in AT_WORK else (WALL_S, CPU_S)
                signal.setitimer(signal.ITIMER_REAL, wall_s, AGAIN_S)
                signal.setitimer(signal.ITIMER_PROF, cpu_s)
                status = main(arguments)
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            finally:
                for timer in ALARMS:
                    signal.setitimer(timer, 0.0)
        except KeyboardInterrupt:  # an alarm went off while main was returning
            status = 130
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        assert "Traceback" not in err + out
        assert status in (0, 1, 2) or (status == 130 and name in AT_WORK), (status, arguments)
        if status == 1:
            sentence = err.startswith("holdfast: ") and err.endswith("\n") and err.count("\n") == 1
            assert sentence or (not err and out), err
        return status

    return run


# Values of options.


def options(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the options that a command lists."""
    with pytest.raises(SystemExit):
        main([name, "--help"])
    found = re.findall(r"(--[a-z][\w.-]*)", capsys.readouterr().out)
    # Ray would start a cluster for each.
    return sorted({*found} - {"--help", "--ray", "--workers"})


@pytest.mark.parametrize("name", COMMANDS)
def test_any_value_of_any_option(name, made, feed, tmp_path, capsys):
    rng = random.Random(f"options of {name}")
    known = options(name, capsys) or ["--x"]
    robot = robot_file(tmp_path)
    needed = {
        "promote": [str(made / "policy.onnx"), "--config", robot],
        "hold": ["promoted", "--config", robot, "--why", "x"],
        "rollback": ["--config", robot, "--why", "x"],
        "receipts": ["--config", robot],
        "sign": [str(made / "policy.onnx"), "--key", "none", "--purpose", "canary"],
        "key": ["key.pem"],
        "logs": [str(made / "demo")],
        "gate": [str(made / "exported.onnx"), "--log", str(made / "demo" / "run")],
        "init": ["robot", "--model", "none.xml"],
        "export": ["--checkpoint", "none"],
        "adopt": [
            str(saved(tmp_path, small())),
            *("--contract", str(contract(tmp_path)), "--out", "adopted.onnx"),
        ],
        "verify": ["--policy", str(made / "policy.onnx")],
        "deploy": ["--robot", "serial:/dev/null", "--policy", str(made / "policy.onnx")],
        "finetune": ["--policy", "none.onnx", "--log", "none", "--out", "child.onnx"],
        "identify": ["--log", str(made / "demo" / "run")],
        "improve": ["--policy", "none.onnx", "--profile", "none", "--out", "child.onnx"],
        "train": SMALL,
        "replay": [str(made / "demo" / "run")],
        "watch": [str(made / "demo" / "run"), "--port", "0"],
        "show": [str(made / "demo" / "run"), "--out", "show.html"],
        "render": [str(made / "demo" / "run"), "--out", "episode.gif"],
    }
    values = [*WORDS, *paths(tmp_path)]
    for _ in range(COUNT):
        chosen = rng.sample(known, min(len(known), rng.choice((1, 1, 1, 2))))
        given = [word for option in chosen for word in (option, rng.choice(values))]
        feed([name, *needed.get(name, []), *given])
    feed([name, *known])
    feed([name, "stray", "[/x]", "\udcff"])


def robot_file(folder: Path) -> str:
    """Write the file of a robot with a registry; return its path."""
    path = folder / "robot.yaml"
    path.write_text("extends: drive\nregistry: {folder: registry, hardware_id: drive-7}\n")
    return str(path)


# Files.


def yaml_case(kind: str) -> Callable[[random.Random, Path], None]:
    source = configs.find("drive").parent / f"{kind}.yaml"

    def write(rng: random.Random, path: Path) -> None:
        if rng.random() < 0.5:
            path.write_bytes(mutated_bytes(source.read_bytes(), rng))
        else:
            data = mutated_plain(yaml.safe_load(source.read_text()), rng)
            path.write_text(yaml.safe_dump(data))

    return write


def checkpoint_case(made: Path) -> Callable[[random.Random, Path], None]:
    source = made / "train" / "checkpoint.safetensors"

    def write(rng: random.Random, path: Path) -> None:
        if rng.random() < 0.4:
            path.write_bytes(mutated_bytes(source.read_bytes(), rng))
            return
        with safe_open(source, framework="pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if rng.random() < 0.3:
            key = rng.choice(sorted(tensors))
            put = rng.choice((None, torch.zeros(3), torch.full_like(tensors[key], torch.nan)))
            tensors = {name: put if name == key else t for name, t in tensors.items()}
            tensors = {name: t for name, t in tensors.items() if t is not None}
        data = mutated_plain(json.loads(header["data"]), rng)
        header["data"] = json.dumps(data)
        path.write_bytes(safetensors.torch.save(tensors, header))

    return write


def bundle_case(rng: random.Random, path: Path) -> None:
    write_bundle(path)
    if rng.random() < 0.4:
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))
        return
    key = rng.choice(("contract", "golden", "familiarity", "prediction", "provenance", "format"))
    contract = json.loads(drive_contract().to_json())
    data = mutated_plain(contract, rng) if key == "contract" else mutated_plain({"x": [1]}, rng)
    write_bundle(path, entries={key: json.dumps(data)})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("gap_demo", ["twin", "--gap"]),
        ("gap_demo", ["demo", "--gap"]),
        ("drive", ["replay", "LOG", "--limits"]),
        ("drive", ["deploy", "--robot", "serial:/dev/null", "--policy", "BUNDLE", "--config"]),
        ("randomise_drive", ["train", "--task", "DriveCircle-v0", "--randomise"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_any_yaml_file(kind, arguments, made, feed, tmp_path):
    rng, write = random.Random(f"{kind} {arguments}"), yaml_case(kind)
    places = {"LOG": str(made / "demo" / "run"), "BUNDLE": str(made / "policy.onnx")}
    given = [places.get(word, word) for word in arguments]
    for _ in range(COUNT):
        write(rng, tmp_path / "given.yaml")
        feed([*given, str(tmp_path / "given.yaml")])
    for path in paths(tmp_path):
        feed([*given, path])


@pytest.mark.parametrize("name", ["train", "export"])
def test_any_checkpoint(name, made, feed, tmp_path):
    rng, write = random.Random(f"checkpoint of {name}"), checkpoint_case(made)
    path = tmp_path / "checkpoint.safetensors"
    resume = ["train", "--resume", "--out", str(tmp_path)]
    for _ in range(COUNT):
        write(rng, path)
        if name == "train":
            progress = (made / "train" / "progress.jsonl").read_bytes()
            (tmp_path / "progress.jsonl").write_bytes(
                mutated_bytes(progress, rng) if rng.random() < 0.3 else progress
            )
        given = ["export", "--checkpoint", str(path), "--out", "x.onnx", "--episodes", "8"]
        feed(resume if name == "train" else given)


@pytest.mark.parametrize("name", ["verify", "deploy", "finetune"])
def test_any_bundle(name, made, feed, tmp_path):
    rng, path = random.Random(f"bundle of {name}"), tmp_path / "policy.onnx"
    log = ["--log", str(made / "demo" / "run"), "--out", "child.onnx"]
    more = {"deploy": ["--robot", "serial:/dev/null"], "finetune": log}.get(name, [])
    for _ in range(COUNT):
        bundle_case(rng, path)
        feed([name, "--policy", str(path), *more])
    for other in paths(tmp_path):
        feed([name, "--policy", other, *more])


@pytest.mark.parametrize("kind", ["policy", "contract", "normaliser"])
def test_any_foreign_policy(kind, feed, tmp_path):
    rng = random.Random(f"foreign {kind}")
    norm = tmp_path / "norm.json"
    norm.write_text(json.dumps({"mean": [0.0] * SIZE, "std": [1.0] * SIZE, "clip": 10.0}))
    files = {"policy": saved(tmp_path, small()), "contract": contract(tmp_path), "normaliser": norm}
    given = files[kind]
    source = given.read_bytes()
    line = ["adopt", str(files["policy"]), "--contract", str(files["contract"])]
    line += ["--normaliser", str(norm), "--out", "adopted.onnx"]
    assert feed(line) == 0
    for _ in range(COUNT):
        if kind != "policy" and rng.random() < 0.5:
            given.write_text(json.dumps(mutated_plain(yaml.safe_load(source), rng)))
        else:
            given.write_bytes(mutated_bytes(source, rng))
        feed(line)
    for other in paths(tmp_path):
        feed([other if word == str(given) else word for word in line])


@pytest.mark.parametrize("kind", ["receipt", "signature", "evidence", "robot's file"])
def test_any_file_of_a_registry(kind, feed, tmp_path):
    rng = random.Random(f"registry {kind}")
    policy, robot = write_bundle(tmp_path / "policy.onnx"), robot_file(tmp_path)
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    signed = signing.save(key.sign(policy.read_bytes(), "drive", "promoted", 1), policy)
    keys = f", trusted_keys: {{a: '{key.public}'}}}}"
    Path(robot).write_text(Path(robot).read_text().replace("}", keys))
    place = ["promote", str(policy), "--config", robot, "--canary"]
    assert feed(place) == 0
    deployment = configs.load(Path(robot)).open_registry()
    slot = deployment.state.slot("canary")
    evidence = deployment.evidence(slot)
    counted = Deployment(evidence, Evidence(drive_contract(), slot.episode_cap))
    counted.claim("drive-7")
    (receipt,) = (tmp_path / "registry" / "journal").glob("*.json")
    given = {"receipt": receipt, "signature": signed, "evidence": evidence}.get(kind, Path(robot))
    source = given.read_bytes()
    for _ in range(COUNT):
        if rng.random() < 0.5:
            given.write_bytes(mutated_bytes(source, rng))
        else:
            given.write_text(json.dumps(mutated_plain(yaml.safe_load(source), rng)))
        for command in (
            ["receipts", "--config", robot],
            ["promote", str(policy), "--config", robot],
            ["deploy", "--robot", "serial:/dev/null", "--config", robot, "--canary"],
        ):
            feed(command)


@pytest.mark.parametrize("name", ["replay", "report", "show", "logs", "render"])
def test_any_log(name, made, feed, tmp_path):
    rng = random.Random(f"log of {name}")
    (source,) = (made / "demo" / "run").glob("*.mcap")
    summary = json.loads((made / "demo" / "summary.json").read_text())
    for _ in range(COUNT):
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        (run / source.name).write_bytes(mutated_bytes(source.read_bytes(), rng))
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        (tmp_path / "progress.jsonl").touch()
        feed([name, *(["--run", "."] if name == "report" else [str(run)])])
    for other in paths(tmp_path):
        feed([name, *(["--run"] if name == "report" else []), other])


def test_any_summary(made, feed, tmp_path):
    rng = random.Random("summary")
    for path in (made / "demo").iterdir():
        (tmp_path / path.name).symlink_to(path)
    source, path = made / "demo" / "summary.json", tmp_path / "summary.json"
    path.unlink()
    for _ in range(2 * COUNT):
        if rng.random() < 0.4:
            path.write_bytes(mutated_bytes(source.read_bytes(), rng))
        else:
            path.write_text(json.dumps(mutated_plain(json.loads(source.read_text()), rng)))
        feed(["report", "--run", str(tmp_path)])
