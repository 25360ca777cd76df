"""What fuzzing has found, and what it starts from, is replayed in every test run."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import targets

KEPT = sorted(path for path in targets.CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_corpus_breaks_no_promise(path):
    targets.TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_random_bytes_break_no_promise(name):
    rng = random.Random(name)
    for _ in range(20):
        targets.TARGETS[name](rng.randbytes(300))


def test_every_target_has_a_corpus():
    assert {path.parent.name for path in KEPT} == set(targets.TARGETS)


def test_the_monitors_target_drives_the_robot():
    """Without that it would try a stopped monitor only."""
    base = targets.Base()
    base.go()
    for _ in range(20):
        base.step(None, (0.5, 0.5))
    assert base.monitor.state is targets.State.ACTIVE
    assert base.pose[0] > 0.1
