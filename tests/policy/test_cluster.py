"""Rollouts on a Ray of this machine: real worker processes, some of them killed."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast import share
from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.policy import train
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.models import checkpoint
from holdfast.policy.sampling.shards import Shard
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.parameters.catalogue import load
from tests.helpers.robots.runs import gone, until

ray = pytest.importorskip("ray", reason="without Ray: pip install 'holdfast-robot[ray]'")
from holdfast.policy.learn import cluster as module  # noqa: E402
from holdfast.policy.learn.cluster import Cluster  # noqa: E402
from holdfast.sim.registry import resolve  # noqa: E402

SETTINGS = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, iterations=2, batch=1040, shards=5, critic_steps=5
)
OPTIONS = ["--task", "PointCircle-v0", "--batch", "520", "--shards", "3", "--critic-steps", "2"]
STEPS = 650
"""Periods of a shard that is to be killed half-way: a second's work, or so."""


def children(pid):
    """Yield the ids of all processes below this one."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from children(child)


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def running():
    """Return the ids of the workers that run a shard right now: Ray names processes so."""
    return [pid for pid in children(os.getpid()) if title(pid).startswith("ray::Worker.run")]


@pytest.fixture(scope="module")
def started():
    """A Ray of this module's own; when it ends, so do its processes."""
    before = set(children(os.getpid()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            "local", num_cpus=3, include_dashboard=False, object_store_memory=200 * 2**20,
            log_to_driver=False, logging_level="CRITICAL",
        )  # fmt: skip
        ours = set(children(os.getpid())) - before
        yield ray.get_runtime_context().gcs_address
        ours |= set(children(os.getpid())) - before
        ray.shutdown()
    until(lambda: all(map(gone, ours)))


@pytest.fixture(scope="module")
def two(started):
    with Cluster("local", 2, SETTINGS, contract_of(SETTINGS)) as cluster:
        yield cluster


@pytest.fixture
def learners():
    """A function that makes learners, to be closed."""
    made = []

    def learner(runner=None):
        made.append(Learner(SETTINGS))
        if runner is not None:
            made[-1].collector.runner = runner
        return made[-1]

    yield learner
    for learner in made:
        learner.close()


def collect(learner, steps=STEPS):
    return learner.collector.collect(learner.policy, learner.normaliser, steps)


def assert_same(rollout, other):
    for field in dataclasses.fields(rollout):
        a, b = getattr(rollout, field.name), getattr(other, field.name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), field.name


def stripped(record):
    return {k: v for k, v in record.items() if k not in ("seconds", "steps_per_s")}


def test_the_same_batches_whatever_the_number_of_workers(two, learners):
    """One worker, two, and none at all; iteration after iteration, with the policy learning."""
    here, spread, alone = learners(), learners(two), learners()
    with Cluster("local", 1, SETTINGS, contract_of(SETTINGS)) as one:
        alone.collector.runner = one
        assert (one.workers, one.count, two.count) == (1, 1, 2)
        rollouts = [collect(learner, 65) for learner in (here, spread, alone)]
        records = [
            [stripped(learner.iterate()) for _ in range(2)] for learner in (here, spread, alone)
        ]
    assert_same(rollouts[0], rollouts[1])
    assert_same(rollouts[0], rollouts[2])
    assert records[0] == records[1] == records[2]
    assert [record["steps"] for record in records[0]] == [1300, 2600]
    assert not np.array_equal(rollouts[0].u, collect(here, 65).u)


def test_a_worker_killed_at_work_is_replaced_and_nothing_counts_twice(two, learners):
    here, spread, killed = learners(), learners(two), []

    def kill():
        until(lambda: bool(running()))
        killed.append(running()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    rollout = collect(spread)
    killer.join()
    assert killed
    assert gone(killed[0])
    assert_same(rollout, collect(here))
    assert rollout.reward.shape == (STEPS, 20)
    # What was lost is neither in this batch nor in the next.
    assert stripped(spread.iterate()) == stripped(here.iterate())
    until(lambda: len(collect(spread, 1).ended) and two.workers == 2)


def test_workers_that_die_again_and_again_are_given_up(two, learners, monkeypatch):
    monkeypatch.setattr(module, "DEATHS", 0)
    stop = threading.Event()

    def kill():
        while not stop.is_set():
            for pid in running():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    with Cluster("local", 1, SETTINGS, contract_of(SETTINGS)) as cluster:
        learner = learners(cluster)
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(TrainingError, match=r"1 workers died and none finished a shard"):
            collect(learner)
        stop.set()
        killer.join()


def test_without_a_place_for_a_worker_nobody_waits_for_ever(two, monkeypatch):
    """Two of three CPUs are taken, and this one is not fast enough."""
    monkeypatch.setattr(module, "STARTS_S", 0.01)
    with pytest.raises(TrainingError, match=r"no worker started within 0\.01 s; \d CPUs"):
        Cluster("local", 1, SETTINGS, contract_of(SETTINGS))


def test_what_goes_wrong_in_a_worker_is_one_sentence_here_and_leaves_nothing(two, learners):
    learner = learners(two)
    with torch.no_grad():
        learner.policy.log_std.fill_(float("nan"))
    with pytest.raises(TrainingError, match="actions should be finite"):
        collect(learner, 65)
    assert_same(collect(learners(two), 65), collect(learners(), 65))


def test_a_worker_with_another_version_is_refused(started, monkeypatch):
    other = {**module.versions_here(), "holdfast": "9.9"}
    monkeypatch.setattr(module, "versions_here", lambda: other)
    with pytest.raises(TrainingError, match=r"worker on .+: has holdfast .+, the learner 9\.9"):
        Cluster("local", 1, SETTINGS, contract_of(SETTINGS))


def test_a_worker_randomises_as_the_learner_does():
    """Whatever it ran before."""
    settings = dataclasses.replace(
        SETTINGS, task=resolve("DriveCircle-v0"), batch=2000, shards=2,
        randomise=load(share.folder() / "config" / "randomise_drive.yaml"),
    )  # fmt: skip
    learner, worker = Learner(settings), module.Worker()
    duties = settings.to_data(), learner.contract.to_json()
    worker.prepare(module.versions_here(), *duties)
    for index in (1, 0, 1):
        weights, shard = (learner.policy, learner.normaliser), Shard(7, index)
        assert_same(worker.run(weights, 260, shard), shard.run(learner.batch, *weights, 260))
    learner.close()


@pytest.mark.parametrize("name", ["MuJoCo", "torch", "NumPy"])
def test_versions_of_all_that_a_batch_depends_on_are_compared(name):
    other = {**module.versions_here(), name: "9.9"}
    with pytest.raises(TrainingError, match=rf"has {name} .+, the learner 9\.9"):
        module.Worker().prepare(other, SETTINGS.to_data(), "")


def test_a_worker_with_another_contract_is_refused():
    changed = dataclasses.replace(contract_of(SETTINGS), episode_steps=64).to_json()
    duties = module.versions_here(), SETTINGS.to_data(), changed
    with pytest.raises(TrainingError, match="another contract than the learner's"):
        module.Worker().prepare(*duties)


@pytest.mark.slow
def test_a_run_goes_on_with_or_without_a_cluster_bit_for_bit(started, tmp_path):
    """Through the command line, as a process of its own that joins by address, and here."""
    spread, here = tmp_path / "spread", tmp_path / "here"
    run = ["train", "--out", str(spread), *OPTIONS, "--iterations", "1", "--ray", started]
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast", *run, "--workers", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    more = ["train", "--out", str(spread), "--resume"]
    assert main([*more, "--iterations", "2", "--ray", "local", "--workers", "1"]) == 0
    assert main([*more, "--iterations", "3"]) == 0
    assert main(["train", "--out", str(here), *OPTIONS, "--iterations", "3"]) == 0
    (tensors, data), (others, other) = (checkpoint.load(p / CHECKPOINT) for p in (spread, here))
    assert data.pop("settings") == {**other.pop("settings"), "iterations": 1}
    assert data == other
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


@contextlib.contextmanager
def listening(answer):
    """An address where something answers with these bytes; None: nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if answer is None:
            server.close()
            yield address
            return

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)
                with contextlib.suppress(ConnectionError):
                    while connection.recv(1000):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield address
        thread.join()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (None, "cannot be reached"),
        (b"", "cannot be reached (timed out)"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "what answers there is not Ray"),
    ],
    ids=["nothing", "silence", "another"],
)
def test_a_cluster_that_is_not_there_is_one_sentence(
    tmp_path, capsys, monkeypatch, answer, sentence
):
    monkeypatch.setattr(module, "ANSWERS_S", 0.5)
    out = tmp_path / "run"
    with listening(answer) as address:
        assert main(["train", "--out", str(out), *OPTIONS, "--ray", address]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"holdfast: --ray {address}: {sentence}")
    assert err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ray", "cluster"], "--ray should be local, auto or HOST:PORT, received 'cluster'"),
        (["--ray", "host:0"], "--ray should be local, auto or HOST:PORT"),
        (["--ray", "local", "--shards", "0"], "--ray spreads shards, and this run has none"),
        (["--ray", "local", "--probe"], "--probe runs on this machine alone"),
        (["--workers", "2"], "workers are Ray's; give --ray too"),
        (["--ray", "local", "--workers", "-1"], "workers should be at least 0"),
        (["--shards", "-1"], "shards should be at least 0"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(tmp_path, capsys, options, sentence):
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), *OPTIONS, *options]) == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_rollouts_are_in_shards_where_a_cluster_is_asked_for():
    """Their number is the same for every cluster: results must not depend on it."""
    shards = train.command_defaults(["--ray", "auto"])["settings"].shards
    assert shards == train.command_defaults(["--ray=local"])["settings"].shards > 1
    assert train.command_defaults([])["settings"].shards == 0
