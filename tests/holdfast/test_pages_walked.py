"""Pages for people, walked through: each command works in its order, and does what it should."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from holdfast.bundle.contract_file import load_contract
from holdfast.cli import main
from holdfast.contract import Cost
from holdfast.log.reader import read
from tests.helpers.data import foreign
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs
from tests.helpers.robots.walk import ROOT, Walk, blocks

DOCS = ROOT / "docs"
SMALL = "--batch 650 --critic-steps 2"
BOARD = "serial:/dev/ttyACM0"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """Stands in for the board of pages that have a real robot."""
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as the_twin:
        yield the_twin


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    shorter = {
        "--iterations 20": "--iterations 1 --batch 1000 --critic-steps 2",
        "--anyway\n": "--anyway --episodes 8\n",
        "/tmp/twin": "twin",
        "config/gap_demo.yaml": str(ROOT / "config" / "gap_demo.yaml"),
        "--episodes 5": "--episodes 3 --explore",
        "holdfast watch": "holdfast watch --port 0",
    }
    folder = tmp_path_factory.mktemp("first_run")
    return Walk(folder, shorter, leave_out=("make demo",), page=DOCS / "start/FIRST_RUN.md")()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory, twin):
    """A folder with a run that leaves the fence, and one that does not."""
    folder = tmp_path_factory.mktemp("two_runs")
    for name, action in (("monday", (0.9, 0.0)), ("tuesday", (0.3, 0.5))):
        cost = Cost("far", "abs(position.x) > 9.0", 10.0, 30.0, 1.0, 0.95)
        contract = drive_contract(episode_steps=120, costs=(cost,))
        policy = write_bundle(folder / f"{name}.onnx", contract, action=action)
        options = ["--robot", twin.address, "--policy", str(policy), "--episodes", "2"]
        assert main(["deploy", *options, "--out", str(folder / "runs" / name)]) == 0
    return folder


def test_the_first_run(first_run):
    assert first_run.output("holdfast verify").count("\nok ") == 3
    assert "outside_corridor, limit d 10" in first_run.output("holdfast show")
    assert "every verdict is as logged" in first_run.output("holdfast replay")
    assert "http://127.0.0.1:" in first_run.output("holdfast watch")
    assert len(read(first_run.folder / "runs/first/log").episodes) == 3


def test_a_policy_from_elsewhere(tmp_path, twin):
    page = DOCS / "start/ADOPT.md"
    (written,) = (b for b in blocks(page.read_text("utf-8")) if b.label == "contract.yaml")
    (tmp_path / "whole.yaml").write_text(written.text)
    assert load_contract(tmp_path / "whole.yaml").observation_size == 8
    lines = written.text.splitlines(keepends=True)
    load = [line for line in lines if "load" in line or line.startswith("signals:")]
    assert len(load) == 3
    made = foreign.model(foreign.layers(), foreign.small_weights(7), shape=(1, 7))
    foreign.saved(tmp_path, made)
    walk = Walk(tmp_path, {**dict.fromkeys(load, ""), BOARD: twin.address}, page=page)()
    assert "over 256 observations" in walk.output("holdfast adopt")
    assert "every verdict is as logged" in walk.output("holdfast replay")


def test_choosing_a_limit(twin, first_run):
    shorter = {
        "--task DriveCircle-v0 --probe": f"--task PointCircle-v0 --probe --iterations 1 {SMALL}",
        "--limit 5 ": "--limit 5 --iterations 1 --batch 1000 --critic-steps 2 ",
        "--batch 40000 --iterations 100": "--iterations 1 --batch 1000 --critic-steps 2",
        "--out runs/many/policy.onnx": "--out runs/many/policy.onnx --episodes 8 --anyway",
        BOARD: twin.address,
    }
    walk = Walk(first_run.folder, shorter, page=DOCS / "guides/LIMITS.md")()
    policies = json.loads((walk.folder / "runs/probe/probe.json").read_text())["policies"]
    assert {"doing nothing", "random actions", "without a limit"} < policies.keys()
    assert (walk.folder / "runs/probe/probe.svg").is_file()
    assert "limit d = 5" in walk.output("holdfast train --task DriveCircle-v0 --limit 5")
    (stricter,) = (
        json.loads(line) for line in (walk.folder / "runs/stricter/progress.jsonl").open()
    )
    assert stricter["started_from"]["iteration"] == 1
    assert "outside_corridor 0 (d 5, " in walk.output("holdfast deploy")


def test_reading_a_verdict(two_runs):
    page = DOCS / "guides/VERDICTS.md"
    walk = Walk(two_runs, {"holdfast watch": "holdfast watch --port 0"}, page=page)()
    (reason,) = {episode.result.code for episode in read(two_runs / "runs/monday").episodes}
    assert reason == "geofence_not_stoppable"
    head, *listed, end = walk.output("holdfast logs").splitlines()
    assert end == "2 runs, 0 logs left out"
    assert head.split().index("episodes") + 1 == head.split().index("stopped")
    assert {tuple(line.split()[4:6]) for line in listed} == {("2", "2"), ("2", "0")}
    shown = walk.output("holdfast show runs/monday")
    assert f"stopped by {reason}" in shown
    assert "interventions with" in shown
    assert "every verdict is as logged" in walk.output("holdfast replay runs/monday")
    compared = walk.output("holdfast replay runs/monday --limits")
    for title in ("stopped at", "holds to", "logged", "new"):
        assert title in compared


def test_promoting_a_policy(tmp_path, twin, first_run):
    cost = Cost("off_line", "abs(position.x) > 50.0", 10.0, 30.0, 1.0, 0.95)
    contract = drive_contract(episode_steps=40, costs=(cost,))
    write_bundle(tmp_path / "first.onnx", contract, action=(0.2, 0.5))
    write_bundle(tmp_path / "child.onnx", contract, action=(0.3, 0.5))
    runs_of = first_run.folder / "runs" / "first"
    here = {
        "folder: /var/lib/holdfast ": "folder: registry ",
        "hardware_id: drive-7 ": "hardware_id: twin-1 ",
        BOARD: twin.address,
        "2026-11-24": datetime.now(UTC).date().isoformat(),
        # Three episodes are too few for the gate, which then ends with the status 1.
        "holdfast gate child.onnx --log runs/monday": "! holdfast gate "
        f"{runs_of / 'policy.onnx'} --log {runs_of / 'log'}",
    }
    walk = Walk(tmp_path, here, page=DOCS / "guides/PROMOTE.md")()
    assert "not enough evidence" in walk.output("! holdfast gate")
    assert "certified after" in walk.output("holdfast deploy")
    assert "is held" in walk.output("holdfast rollback")
    told = walk.output("holdfast receipts")
    assert "2 runs of twin-1" in told
    assert "certified after 8 episodes" in told
    assert "\nalice: ed25519:" in walk.output("holdfast key")
    assert (tmp_path / "child.onnx.signature").is_file()


def test_watching(two_runs, first_run):
    """The training that the page makes is the one of the first run here."""
    here = {"holdfast watch": "holdfast watch --port 0", "twin --view": "twin --view --view-port 0"}
    (two_runs / "runs" / "circle").symlink_to(first_run.folder / "runs" / "first")
    page = DOCS / "guides/WATCH.md"
    walk = Walk(two_runs, here, leave_out=("holdfast train",), page=page)()
    said = walk.output("holdfast watch").splitlines()
    assert [line.partition(" http")[0] for line in said] == [
        *("runs/monday:", "waiting for a log or a training in runs/monday"),
        *("runs/monday:", "runs/tuesday:", "runs/circle:"),
    ]
    assert "serial:" in walk.output("holdfast twin")
    assert "evident that tuesday is better" in walk.output("holdfast show --compare")
