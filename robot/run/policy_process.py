"""The policy in a process of its own: it sees observations, and all it can do is propose.

Its only channel is a socket pair of whole messages. It proposes motion only while it is told
that it may, and ends when the channel or the monitor's process does. Both ends are here:
`PolicyProcess` is the run loop's, `main` is the process.
"""

from __future__ import annotations

import contextlib
import gc
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

from holdfast import child
from holdfast.bundle import reader as bundles
from holdfast.contract import Contract
from holdfast.errors import BundleError, RunError
from holdfast.safety_monitor.messages import Proposal
from holdfast.signals import Array

START_LIMIT_S = 30.0
END_LIMIT_S = 1.0
_HELLO = struct.Struct("<32s32s")  # contract hash, bundle hash


def _request(contract: Contract) -> struct.Struct:
    """Sequence, stamp, may move, observation."""
    return struct.Struct(f"<Qd?7x{contract.observation_size}d")


def _answer(contract: Contract) -> struct.Struct:
    """Sequence, stamp, log-probability, contract hash, action."""
    return struct.Struct(f"<Qdd32s{contract.action_size}d")


class PolicyProcess:
    """The run loop's end of the channel.

    Args:
        bundle: checked already; the process loads the file itself and must find the same.
        explore: sample actions; otherwise propose the mean.
        seed: of the samples.

    Attributes:
        late: the newest question was not answered in time.
        ended: no answer will ever come.
    """

    def __init__(self, bundle: bundles.Bundle, explore: bool, seed: int) -> None:
        self._bundle = bundle
        self._request, self._answer = _request(bundle.contract), _answer(bundle.contract)
        self.late = False
        self.ended = False
        self._asked = -1
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        arguments = (str(bundle.path), str(theirs.fileno()), "explore" if explore else "mean")
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
        """Return when the process has loaded its bundle.

        Raises:
            RunError: it ended or did not get there in time, or loaded something else.
        """
        data = self._receive(time.monotonic() + START_LIMIT_S)
        if data is None:
            late = f"the policy process did not load its bundle within {START_LIMIT_S:g} s"
            raise RunError(self.status_text() if self.ended else late)
        mine = (bytes.fromhex(self._bundle.contract.hash), bytes.fromhex(self._bundle.hash))
        if data != _HELLO.pack(*mine):
            raise RunError(f"{self._bundle.path} changed while the run was starting")

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        """Ask for a proposal; does not wait."""
        self._asked = sequence
        try:
            self._socket.send(self._request.pack(sequence, now_s, may_move, *observation.tolist()))
        except BlockingIOError:
            pass  # it has not taken in what it was asked before; the answer will be late
        except OSError:
            self.ended = True

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        """Wait for the answer to the newest question; what answers an older one is dropped.

        An answer belongs to one observation: a late one would be logged against another.

        Returns:
            The proposal and its log-probability, or None if there was none within `limit_s`.
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
                break  # whatever else there is, and however much
        self.late = True
        return None

    def status_text(self) -> str:
        """Say what became of a process that hangs or ended; waits a moment for its end."""
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
        """Nothing: the process loaded the very bundle, or `wait_ready` said so."""
        return ()

    def close(self) -> None:
        """End the process: it leaves by itself when the channel is closed, or is killed."""
        self._socket.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self, deadline_s: float) -> bytes | None:
        """Return the next message, or None if there is none by then or will never be."""
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


def main(path: str, descriptor: str, mode: str, seed: str) -> int:
    """Load a bundle and answer questions until the channel is closed."""
    channel = socket.socket(fileno=int(descriptor))
    try:
        bundle = bundles.load(Path(path))
    except BundleError as error:
        print(f"policy process: {error}", file=sys.stderr)
        return 1
    contract = bundle.contract
    contract_hash = bytes.fromhex(contract.hash)
    request, answer = _request(contract), _answer(contract)
    rng = np.random.default_rng(int(seed))
    explore = mode == "explore"
    nothing = np.zeros(contract.action_size)
    channel.send(_HELLO.pack(contract_hash, bytes.fromhex(bundle.hash)))
    gc.freeze()
    gc.disable()
    while data := channel.recv(request.size):
        sequence, stamp_s, may_move, *observation = request.unpack(data)
        action, log_prob = nothing, math.nan
        if may_move:
            action, log_std = bundle.act(np.array(observation))
            if explore:
                action, log_prob = bundles.sample(action, log_std, rng, contract)
        channel.send(answer.pack(sequence, stamp_s, log_prob, contract_hash, *action.tolist()))
    return 0


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the monitor's process is gone
        sys.exit(main(*sys.argv[1:]))
