"""The policy in a process of its own, which gets observations and can only propose actions.

The only channel is a socket pair of whole messages. The policy proposes motion only while a
question permits motion, and the process ends with the channel or with the monitor's process.
`PolicyProcess` is the run loop's end of the channel, `main` is the process.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from holdfast import child, files
from holdfast.bundle import reader as bundles
from holdfast.bundle.limit_range import limits_of
from holdfast.contract import Contract
from holdfast.errors import BundleError, FileError, RunError
from holdfast.safety_monitor.messages import Proposal
from holdfast.signals import Array

START_LIMIT_S = 30.0
END_LIMIT_S = 1.0
_HELLO = struct.Struct("<32s32s")  # contract hash, bundle hash


def _request(contract: Contract) -> struct.Struct:
    """Return the layout of a question: sequence, stamp, may move, observation."""
    return struct.Struct(f"<Qd?7x{contract.observation_size}d")


def _answer(contract: Contract) -> struct.Struct:
    """Return the layout of an answer: sequence, stamp, log-probability, contract hash, action."""
    return struct.Struct(f"<Qdd32s{contract.action_size}d")


class PolicyProcess:
    """The run loop's end of the channel.

    Args:
        bundle: the checked bundle; the process loads the file itself, which must be the same.
        explore: sample actions; otherwise propose the mean action.
        seed: random seed of the sampled actions.

    Raises:
        BundleError: explore, and the policy has no density.

    Attributes:
        late: the newest question was not answered in time.
        ended: no answer will ever come.
    """

    def __init__(self, bundle: bundles.Bundle, explore: bool, seed: int) -> None:
        if explore:
            bundle.require_density()
        self._bundle = bundle
        self._request, self._answer = _request(bundle.contract), _answer(bundle.contract)
        self.late = False
        self.ended = False
        self._asked = -1
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        mode = "explore" if explore else "mean"
        limits = json.dumps(limits_of(bundle.contract))
        arguments = (str(bundle.path), bundle.hash, limits, str(theirs.fileno()), mode)
        self._process = child.start(
            "holdfast.robot.run.policy_process",
            *arguments,
            str(seed),
            at_end=signal.SIGKILL,  # it may hang in native code
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a terminal's Ctrl-C is the monitor's to answer
        )
        theirs.close()

    def wait_ready(self) -> None:
        """Wait until the process has loaded the bundle.

        Raises:
            RunError: the process ended, took too long, or loaded another bundle.
        """
        data = self._receive(time.monotonic() + START_LIMIT_S)
        if data is None:
            late = f"the policy process did not load its bundle within {START_LIMIT_S:g} s"
            raise RunError(self.status_text() if self.ended else late)
        mine = (bytes.fromhex(self._bundle.contract.hash), bytes.fromhex(self._bundle.hash))
        if data != _HELLO.pack(*mine):
            raise RunError(f"{self._bundle.path} changed while the run was starting")

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        """Ask for a proposal, without waiting."""
        self._asked = sequence
        try:
            self._socket.send(self._request.pack(sequence, now_s, may_move, *observation.tolist()))
        except BlockingIOError:
            pass  # the process has not read its earlier questions; the answer will be late
        except OSError:
            self.ended = True

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        """Wait for the answer to the newest question; answers to older questions are dropped.

        An answer belongs to one observation: a late answer would be logged with another one.

        Returns:
            The proposal and its log-probability, or None if no answer came within `limit_s`.
        """
        deadline_s = time.monotonic() + limit_s
        while (data := self._receive(deadline_s)) is not None:
            if len(data) == self._answer.size:
                sequence, stamp_s, log_prob, contract_hash, *action = self._answer.unpack(data)
                if sequence == self._asked:
                    self.late = False
                    proposal = Proposal(stamp_s, sequence, np.array(action), contract_hash.hex())
                    return proposal, log_prob
            if time.monotonic() >= deadline_s:
                break  # also while more messages wait
        self.late = True
        return None

    def status_text(self) -> str:
        """Return in words whether the process hangs or how it ended; waits a moment for its end."""
        if not self.ended:
            return "the policy process hangs"
        try:
            status = self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "the policy process closed its channel"
        if status < 0:
            return f"the policy process was killed ({signal.Signals(-status).name})"
        return f"the policy process ended with exit status {status}"

    def faults(self) -> tuple[str, ...]:
        """Return no fault: `wait_ready` has checked that the process loaded this bundle."""
        return ()

    def close(self) -> None:
        """Close the channel, which ends the process; kill a process that does not end."""
        self._socket.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self, deadline_s: float) -> bytes | None:
        """Return the next message; None if none comes by then, or the channel was closed."""
        if self.ended:
            return None
        left_s = max(deadline_s - time.monotonic(), 0.0)
        if not select.select([self._socket], [], [], left_s)[0]:
            return None
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        self.ended = not data
        return data or None


def main(path: str, sha256: str, limits: str, descriptor: str, mode: str, seed: str) -> int:
    """Load a bundle and answer questions until the channel is closed.

    A file that is not the checked one is not parsed: it may be one that the robot refuses.
    """
    channel = socket.socket(fileno=int(descriptor))
    try:
        data = files.read(Path(path), bundles.LARGEST)
        found = hashlib.sha256(data)
        if found.hexdigest() != sha256:
            channel.send(_HELLO.pack(bytes(32), found.digest()))
            return 1
        bundle = bundles.from_bytes(data, Path(path)).under(json.loads(limits))
    except (BundleError, FileError) as error:
        print(f"policy process: {error}", file=sys.stderr)
        return 1
    contract = bundle.contract
    contract_hash = bytes.fromhex(contract.hash)
    request, answer = _request(contract), _answer(contract)
    rng = np.random.default_rng(int(seed))
    explore = mode == "explore"
    nothing, actor = np.zeros(contract.action_size), bundles.Actor(bundle, explore)
    channel.send(_HELLO.pack(contract_hash, bytes.fromhex(bundle.hash)))
    gc.freeze()
    gc.disable()
    while data := channel.recv(request.size):
        sequence, stamp_s, may_move, *observation = request.unpack(data)
        action, log_prob = nothing, math.nan
        if may_move:
            action, log_std = actor.act(np.array(observation))
            if log_std is not None:
                action, log_prob = bundles.sample(action, log_std, rng, contract)
        else:
            actor.reset()  # a question between two episodes, or an episode's last
        channel.send(answer.pack(sequence, stamp_s, log_prob, contract_hash, *action.tolist()))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the monitor's process ends this one
    with contextlib.suppress(ConnectionError):  # the monitor's process is gone
        sys.exit(main(*sys.argv[1:]))
