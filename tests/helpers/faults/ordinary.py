"""Ordinary episodes: the demo's policy on a twin with the demo's gap, in lockstep."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np

from holdfast import share
from holdfast.bundle import reader as bundles
from holdfast.errors import HoldfastError
from holdfast.log.format import EpisodeResult
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.ship.export import EPISODES, export
from holdfast.policy.train import CHECKPOINT, train
from holdfast.robot.run.assembly import assemble
from holdfast.robot.run.by_count import EpisodesByCount
from holdfast.robot.run.loop import Loop
from holdfast.robot.run.session import Session
from holdfast.safety_monitor.messages import Proposal
from holdfast.signals import Array
from holdfast.sim.parameters.catalogue import Parameters, load
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.faults.lying_twin import connected, demo_gap


def demo_policy(folder: Path, seed: int) -> Path:
    """Return the bundle that `holdfast demo` trains first; trains it, if it is not there."""
    from rich.console import Console

    path = folder / "policy.onnx"
    if not path.exists():
        randomise = load(share.folder() / "config" / "randomise_demo.yaml")
        settings = TrainSettings(seed=seed, iterations=65, randomise=randomise)
        checkpoint = folder / "train" / CHECKPOINT
        train(settings, checkpoint.parent, checkpoint.exists(), 10, Console(quiet=True))[0].close()
        export(checkpoint, path, EPISODES)
    return path


class Policy:
    """A bundle that explores, as in the demo's runs; in this process."""

    late = ended = False

    def __init__(self, bundle: bundles.Bundle, seed: int) -> None:
        self._bundle, self._rng = bundle, np.random.default_rng(seed)

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        contract = self._bundle.contract
        action, log_prob = np.zeros(contract.action_size), math.nan
        if may_move:
            mean, log_std = self._bundle.act(observation)
            action, log_prob = bundles.sample(mean, log_std, self._rng, contract)
        self._said = Proposal(now_s, sequence, action, contract.hash), log_prob

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        return self._said

    def status_text(self) -> str:
        return ""

    def faults(self) -> tuple[str, ...]:
        return ()


def run(policy: Path, config: Path | None, seed: int, episodes: int, gapped: bool) -> list[str]:
    """Return what stopped each episode, by code; "" for one that was completed."""
    task = resolve("DriveCircle-v0").make()
    board = TwinBoard(
        task, demo_gap() if gapped else Parameters(), seed, True, Truth(task, seed, None)
    )
    ends: list[str] = []

    def report(result: EpisodeResult) -> None:
        ends.append(result.code)

    with connected(board) as robot:
        proposer = Policy(bundles.load(policy), seed)
        while len(ends) < episodes:
            assembly = assemble(policy, config, (), None)
            loop = Loop(robot, assembly.monitor, proposer, assembly.bundle, None, assembly.config)
            session = Session(loop, assembly.config.ready_wait_s, report)
            with suppress(HoldfastError):  # a fault ended the run: it is in `ends`
                EpisodesByCount(session, prompt=False).run(episodes - len(ends))
    return ends
