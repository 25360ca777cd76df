"""The policy's process: it proposes when asked, moves only when told, and goes when left."""

from __future__ import annotations

import os
import signal
import socket
import struct

import numpy as np
import pytest

from holdfast.bundle.reader import load, sample
from holdfast.errors import RunError
from holdfast.robot.run.policy_process import PolicyProcess
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs

OBSERVATION = np.linspace(-1.0, 1.0, 9)


@pytest.fixture
def bundle(tmp_path):
    return load(write_bundle(tmp_path / "policy.onnx", gain=0.3, log_std=-0.5))


@pytest.fixture
def process(bundle):
    policy = PolicyProcess(bundle, explore=True, seed=11)
    try:
        policy.wait_ready()
        yield policy
    finally:
        policy.close()


def ask(policy, sequence, may_move=True, limit_s=5.0):
    policy.ask(sequence, 100.0 + sequence, may_move, OBSERVATION)
    return policy.answer(limit_s)


def test_it_samples_with_its_seed_and_moves_only_when_told(bundle, process):
    rng = np.random.default_rng(11)
    for sequence in range(20):
        may_move = sequence % 3 != 0
        proposal, log_prob = ask(process, sequence, may_move)
        assert (proposal.sequence, proposal.stamp_s) == (sequence, 100.0 + sequence)
        assert proposal.contract_hash == bundle.contract.hash
        if may_move:
            action, expected = sample(*bundle.act(OBSERVATION), rng, bundle.contract)
            np.testing.assert_array_equal(proposal.action, action)
            assert log_prob == expected
        else:
            assert not proposal.action.any()
            assert np.isnan(log_prob)
    assert not process.late


def test_without_exploring_it_proposes_the_mean(bundle):
    policy = PolicyProcess(bundle, explore=False, seed=11)
    policy.wait_ready()
    proposal, log_prob = ask(policy, 0)
    policy.close()
    np.testing.assert_array_equal(proposal.action, bundle.act(OBSERVATION)[0])
    assert np.isnan(log_prob)


def test_a_late_answer_is_never_taken_for_a_newer_one(process):
    os.kill(process._process.pid, signal.SIGSTOP)
    assert ask(process, 1, limit_s=0.05) is None
    assert process.late
    assert ask(process, 2, limit_s=0.05) is None
    os.kill(process._process.pid, signal.SIGCONT)
    proposal, _ = ask(process, 3)
    assert proposal.sequence == 3
    assert not process.late


def test_a_hung_process_never_blocks_the_loop(process):
    os.kill(process._process.pid, signal.SIGSTOP)
    for sequence in range(5000):  # more than any socket buffers
        assert ask(process, sequence, limit_s=0.0) is None
    assert process.late
    assert not process.ended


def test_a_killed_process_is_noticed(process):
    os.kill(process._process.pid, signal.SIGKILL)
    runs.until(lambda: ask(process, 1, limit_s=0.01) is None and process.ended)
    assert process.status_text() == "the policy process was killed (SIGKILL)"
    assert ask(process, 2) is None  # at once, and without an error


def test_rubbish_is_no_answer(process):
    """A policy that writes something else into its channel, and that without end."""
    ours = process._socket
    process._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process._socket.setblocking(False)
    for size in (1, 8, 71, 73, 4000):
        theirs.send(bytes(size))
    process._asked = 7
    stale = struct.pack("<Qdd32s2d", 6, 0.0, 0.0, bytes(32), 1.0, 1.0)
    theirs.send(stale)
    assert process.answer(0.05) is None
    assert process.late
    theirs.close()
    assert process.answer(0.05) is None
    assert process.ended
    process._socket.close()
    process._socket = ours


def test_it_ends_when_its_channel_does(process):
    process.close()
    assert process._process.returncode == 0


def test_a_hung_process_is_killed_in_the_end(bundle):
    policy = PolicyProcess(bundle, explore=False, seed=0)
    policy.wait_ready()
    os.kill(policy._process.pid, signal.SIGSTOP)
    policy.close()
    assert policy._process.returncode == -signal.SIGKILL


def test_it_does_not_hear_the_terminals_ctrl_c(process):
    assert os.getsid(process._process.pid) != os.getsid(0)


def test_a_bundle_that_is_gone_by_then(bundle, capfd):
    bundle.path.unlink()
    policy = PolicyProcess(bundle, explore=False, seed=0)
    with pytest.raises(RunError, match="the policy process ended with exit status 1"):
        policy.wait_ready()
    policy.close()
    assert "cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize("parsed", [True, False])
def test_a_bundle_that_was_replaced_meanwhile(bundle, parsed, capfd):
    """What is not the checked file is not parsed: junk has the same sentence."""
    if parsed:
        write_bundle(bundle.path, drive_contract(), gain=0.4)
    else:
        bundle.path.write_bytes(b"junk")
    policy = PolicyProcess(bundle, explore=False, seed=0)
    with pytest.raises(RunError, match="changed while the run was starting"):
        policy.wait_ready()
    policy.close()
