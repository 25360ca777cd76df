"""Rollouts on a Ray cluster: workers run shards, and the learner updates the policy.

A worker keeps no state between shards, and a shard's result does not depend on the worker. A shard
that was lost with its worker is run again by another worker; only whole results are used.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from holdfast import __version__
from holdfast.contract import Contract
from holdfast.errors import ConfigError, HoldfastError, TrainingError
from holdfast.policy.learn.settings import TrainSettings, contract_of, settings_from
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Normaliser
from holdfast.policy.sampling.rollout import Rollout
from holdfast.policy.sampling.shards import Shard
from holdfast.sim.registry import resolve

ANSWERS_S = 5.0
"""Time within which an address has to answer, s."""

STARTS_S = 120.0
"""Time within which the first worker has to start, s."""

DEATHS = 3
"""Mean number of deaths per worker that are accepted before any shard is finished."""

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The first bytes of a client of HTTP/2, which Ray speaks: preface and empty settings."""


class Worker:
    """A process that runs shards on one core."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def prepare(
        self, versions: Mapping[str, str], settings: Mapping[str, Any], contract: str
    ) -> None:
        """Make the batch.

        Args:
            versions: the learner's packages. settings, contract: the learner's, as JSON data.

        Raises:
            TrainingError: another version is installed on this machine, or the task differs.
        """
        here = socket.gethostname()
        for name, own in versions_here().items():
            if own != versions[name]:
                raise TrainingError(
                    f"worker on {here}: has {name} {own}, the learner {versions[name]}; "
                    "install the same everywhere"
                )
        own_settings = settings_from(
            settings, resolve(settings["task"])
        )  # which the learner runs too
        made = contract_of(own_settings)
        if made.to_json() != contract:
            raise TrainingError(
                f"worker on {here}: its {made.task} has another contract than the learner's; "
                "install the same holdfast everywhere"
            )
        copies = own_settings.copies(made) // own_settings.shards
        s = own_settings
        self.batch = s.task.batch(copies, 0, 1, made, s.randomise, alternatives=s.alternatives)

    def run(self, weights: tuple[GaussianPolicy, Normaliser], steps: int, shard: Shard) -> Rollout:
        """Run a shard."""
        return shard.run(self.batch, *weights, steps)


def versions_here() -> dict[str, str]:
    """Return the versions of the packages that a batch depends on."""
    return {
        "holdfast": __version__,
        "MuJoCo": mujoco.__version__,
        "torch": torch.__version__,
        "NumPy": np.__version__,
    }


class Cluster:
    """A `Runner` of shards on a Ray cluster, to be closed. A cluster joined before is used.

    Args:
        address: "local" starts Ray on this machine; "auto" finds this machine's cluster;
            "HOST:PORT" is the address of another cluster.
        workers: number of workers, at most the number of shards; 0: one per CPU of the cluster.
        settings, contract: the learner's.

    Attributes:
        count: number of workers, started or not.

    Raises:
        ConfigError: there is no cluster at this address, or it has another version of Ray.
        TrainingError: no worker starts, or a worker's machine has another version installed.
    """

    def __init__(
        self, address: str, workers: int, settings: TrainSettings, contract: Contract
    ) -> None:
        self._joined = join(address, workers)
        self._worker: Any = ray.remote(num_cpus=1)(Worker)
        self._duties = (versions_here(), settings.to_data(), contract.to_json())
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Shard | None]] = {}  # no shard: the worker is starting
        self._deaths = 0
        self.count = min(workers or int(ray.cluster_resources().get("CPU", 1)), settings.shards)
        try:
            for _ in range(self.count):
                self._hire()
            while not self._idle:
                self._next()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Number of workers that have started."""
        return len(self._idle) + sum(shard is not None for _, shard in self._busy.values())

    def __call__(
        self, policy: GaussianPolicy, normaliser: Normaliser, steps: int, shards: Sequence[Shard]
    ) -> list[Rollout]:
        """See `Runner`.

        Raises:
            TrainingError: as for `Batch.step`; or workers keep dying.
        """
        self._clear()
        weights = ray.put((policy, normaliser))
        made: dict[Shard, Rollout] = {}
        left = deque(shards)
        while len(made) < len(shards):
            while left and self._idle:
                worker, shard = self._idle.pop(), left.popleft()
                self._busy[worker.run.remote(weights, steps, shard)] = (worker, shard)
            done, rollout = self._next()
            if done is None:
                continue
            if rollout is None:
                left.appendleft(done)
            else:
                made[done] = rollout
        return [made[shard] for shard in shards]

    def _hire(self) -> None:
        worker = self._worker.remote()
        self._busy[worker.prepare.remote(*self._duties)] = (worker, None)

    def _clear(self) -> None:
        """Replace workers that still run shards of an interrupted rollout."""
        for task, (worker, shard) in list(self._busy.items()):
            if shard is not None:
                del self._busy[task]
                ray.kill(worker)
                self._hire()

    def _next(self) -> tuple[Shard | None, Rollout | None]:
        """Wait until a worker is done; return its shard and the shard's rollout.

        The shard is None if the worker has just started, the rollout None if the worker died. A
        dead worker is replaced.
        """
        limit_s = None if self.workers else STARTS_S
        ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=limit_s)
        if not ready:
            raise TrainingError(
                f"Ray: no worker started within {STARTS_S:g} s; "
                f"{ray.available_resources().get('CPU', 0.0):g} CPUs of the cluster are free"
            )
        worker, shard = self._busy.pop(ready[0])
        try:
            rollout: Rollout | None = ray.get(ready[0])
        except RayTaskError as error:
            if shard is not None:
                self._idle.append(worker)
            if isinstance(error.cause, HoldfastError):
                raise error.cause from None
            if shard is not None:
                raise  # a mistake in Holdfast
            raise _cannot_start(error) from None
        except RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise _cannot_start(error) from None
            self._bury(worker, error)
            return shard, None
        self._idle.append(worker)
        if shard is not None:
            self._deaths = 0
        return shard, rollout

    def _bury(self, worker: Any, error: RayError) -> None:
        ray.kill(worker)  # in case it was only unreachable
        self._deaths += 1
        if self._deaths > DEATHS * self.count:
            raise TrainingError(
                f"Ray: {self._deaths} workers died and none finished a shard: {_last_line(error)}"
            ) from None
        self._hire()

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)
        self._idle, self._busy = [], {}
        if self._joined:
            ray.shutdown()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def join(address: str, workers: int) -> bool:
    """Join the cluster; return whether it had not been joined before.

    Raises:
        ConfigError: see `Cluster`.
    """
    options: dict[str, Any] = {}
    if address == "local":
        # The learner updates while the workers wait, so all cores may be the workers'.
        options = {"num_cpus": workers or None, "include_dashboard": False}
    elif address != "auto":
        _answers(address)
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of a change
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # any error means that there is no cluster to train on
        raise ConfigError(f"--ray {address}: {' '.join(str(error).split())}") from None
    return True


def _answers(address: str) -> None:
    """Raise ConfigError unless the address speaks HTTP/2: Ray itself would wait minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(f"--ray should be local, auto or HOST:PORT, received '{address}'")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWERS_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return
            connection.sendall(HELLO)
            answer = connection.recv(9)
    except OSError as error:
        raise ConfigError(f"--ray {address}: cannot be reached ({error})") from None
    if answer[3:4] != HELLO[-6:-5]:
        raise ConfigError(f"--ray {address}: what answers there is not Ray")


def _cannot_start(error: Exception) -> TrainingError:
    return TrainingError(
        f"Ray: a worker cannot start ({_last_line(error)}); install the same holdfast everywhere"
    )


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
