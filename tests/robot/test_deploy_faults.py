"""Whoever dies, the nearest hop that still lives stops the robot: real processes and signals.

The twin closes the books of an episode when it is disarmed, by whomever; that is awaited
before anything talks to it again. Latched faults then tell who stopped it. Most runs are in
lockstep, where a busy machine cannot be taken for a fault.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from holdfast.contract import Cost
from holdfast.log.reader import Log, read
from holdfast.log.writer import CHUNK_S
from holdfast.robot import config as configs
from holdfast.robot.run.replay import replay
from holdfast.robot.serial import device, link
from holdfast.safety_monitor.messages import State
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.robots import runs
from tests.helpers.robots.twins import connected, second_writer

EMERGENCY = "emergency stop"
WATCHDOG = "watchdog"
PERIOD_S = 0.05


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A robot that ordinary faults leave alive."""
    with runs.twin(tmp_path_factory.mktemp("twin"), lockstep=True) as the_twin:
        yield the_twin


@pytest.fixture
def twin_in_real_time(tmp_path):
    with runs.twin(tmp_path, lockstep=False) as the_twin:
        yield the_twin


@pytest.fixture
def policy(tmp_path):
    """Moves on a circle of 0.4 m: it would go on for an hour, wherever the twin places it."""
    corridor = Cost("outside_corridor", "abs(position.x) > 9.0", 10.0, 30.0, 1.0, 0.95)
    contract = drive_contract(episode_steps=72_000, costs=(corridor,))
    return write_bundle(tmp_path / "policy.onnx", contract, action=(0.4, 1.0))


@pytest.fixture(autouse=True)
def every_fault_can_be_replayed(tmp_path):
    """Whatever happened, a fresh monitor that is told the same says the same."""
    yield
    log = read(tmp_path / "run")
    assert len(log.steps)
    assert not replay(log).differs(log).any()


def last_words(err: str) -> str:
    """What was said on standard error: one sentence, never a traceback."""
    assert err.count("\n") == 1, err
    return err.strip()


def states(log: Log) -> list[State]:
    """The monitor's states while armed, each as often as it was entered."""
    (episode,) = log.episodes
    changes = [State(int(s)) for s in episode.state]
    return [s for s, before in zip(changes, [None, *changes], strict=False) if s is not before]


def check_stopped(twin: runs.Twin, *faults: str) -> None:
    speed, latched = twin.inspect()
    assert speed < 0.01
    assert len(latched) == len(faults)
    for fault, sentence in zip(faults, latched, strict=True):
        assert fault in sentence.lower()


def interrupt(twin, folder, policy, steps, number):
    before = twin.episodes()
    with runs.deployment(folder / "run", twin.address, policy) as run:
        run.wait_for_steps(20)
        pid = run.policy
        os.killpg(run.process.pid, number)  # as a terminal's Ctrl-C does
        status, out, err = run.end()
    assert (status, err) == (130, "")
    assert "interrupted" in out
    assert twin.episodes() == before + 1
    check_stopped(twin)
    log = run.log()
    assert not log.torn
    assert log.episodes[0].result.code == "interrupted"
    assert log.events[-1].name == "stop"
    assert states(log) == [State.ACTIVE]
    assert runs.gone(pid)


def test_sigterm_disarms(tmp_path, twin, policy):
    interrupt(twin, tmp_path, policy, 20, signal.SIGTERM)


@pytest.mark.alone
def test_ctrl_c_disarms_in_real_time(tmp_path, twin_in_real_time, policy):
    interrupt(twin_in_real_time, tmp_path, policy, 4, signal.SIGINT)


def test_a_killed_policy(tmp_path, twin, policy):
    before = twin.episodes()
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        run.wait_for_steps(20)
        os.kill(run.policy, signal.SIGKILL)
        status, _, err = run.end()
    assert status == 1
    assert "the policy process was killed (SIGKILL)" in last_words(err)
    assert twin.episodes() == before + 1
    check_stopped(twin, EMERGENCY)
    log = run.log()
    assert not log.torn
    assert states(log) == [State.ACTIVE, State.FALLBACK, State.STOPPED]
    result = log.episodes[0].result
    assert (result.ended, result.code) == ("stopped", "proposal_stale")
    speeds = log.episodes[0].signals["forward_speed"][:, 0]
    assert speeds.max() > 0.3
    assert abs(speeds[-1]) < 0.1  # it was brought to a stop, not cut off


def test_a_hung_policy(tmp_path, twin, policy):
    """Lockstep's time stands still while the loop waits: the limit is on the wall clock."""
    config = tmp_path / "drive.yaml"
    text = configs.find("drive").read_text()
    config.write_text(text.replace("lockstep_wait_s: 2.0", "lockstep_wait_s: 0.5"))
    with runs.deployment(tmp_path / "run", twin.address, policy, "--config", str(config)) as run:
        run.wait_for_steps(20)
        pid = run.policy
        os.kill(pid, signal.SIGSTOP)
        status, _, err = run.end()
    assert status == 1
    assert "the policy process hangs" in last_words(err)
    check_stopped(twin, EMERGENCY)
    assert states(run.log()) == [State.ACTIVE, State.FALLBACK, State.STOPPED]
    assert runs.gone(pid)


def kill_monitor(twin, folder, policy, steps):
    before = twin.episodes()
    with runs.deployment(folder / "run", twin.address, policy) as run:
        run.wait_for_steps(20)
        pid = run.policy
        run.process.kill()
        run.process.wait()
        runs.until(lambda: twin.episodes() > before, 10.0)
        runs.until(lambda: runs.gone(pid), 10.0)
    check_stopped(twin, WATCHDOG)
    log = run.log()
    assert log.torn
    assert log.episodes[0].result.ended == "torn"
    assert log.episodes[0].result.steps >= steps - 1


def test_a_killed_monitor(tmp_path, twin, policy):
    kill_monitor(twin, tmp_path, policy, 20)


@pytest.mark.alone
def test_a_killed_monitor_in_real_time(tmp_path, twin_in_real_time, policy):
    kill_monitor(twin_in_real_time, tmp_path, policy, 4)


def test_a_monitor_that_sleeps(tmp_path, twin, policy):
    """The device stops the robot meanwhile; the monitor does not go on when it wakes."""
    before = twin.episodes()
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        run.wait_for_steps(20)
        run.process.send_signal(signal.SIGSTOP)
        runs.until(lambda: twin.episodes() > before, 10.0)
        run.process.send_signal(signal.SIGCONT)
        status, _, err = run.end()
    assert status == 1
    assert WATCHDOG in last_words(err)
    assert twin.episodes() == before + 1
    assert run.log().episodes[0].result.code == "device_fault"
    assert states(run.log())[-1] is State.STOPPED


def clock_difference(address):
    """Device time less the host's monotonic time, as the next host to come would find it."""
    with connected(address) as robot:
        return robot._newest.time_us / 1e6 - robot.read().stamp_s


def notice(folder, policy, lockstep, kind, sentence, *, sequence=1, payload=b"", late_s=0.0):
    """Let another program write to the device while a run is under way; return the log.

    It knows the device's time, so that nothing that it says is late against its will. In lockstep
    the run waits for its policy meanwhile, and its log is on the disk.
    """
    with (
        runs.twin(folder, lockstep=lockstep) as twin,
        second_writer(twin.address) as write,
    ):
        difference_s = clock_difference(twin.address)
        with runs.deployment(folder / "run", twin.address, policy) as run:
            run.wait_for_steps(20)
            if lockstep:
                os.kill(run.policy, signal.SIGSTOP)
                time.sleep(3 * CHUNK_S)
            log = run.log()
            written_s = time.time()
            device_s = difference_s + time.monotonic() - PERIOD_S  # of the newest STATE, say
            if lockstep:
                device_s = log.episodes[0].now_s[-1]
            write(kind, sequence, round((device_s - late_s) * 1e6), payload)
            if lockstep:
                os.kill(run.policy, signal.SIGCONT)
            status, _, err = run.end()
            assert status == 1
            assert last_words(err).startswith(
                f"holdfast: the monitor stopped the robot: {sentence}"
            )
            check_stopped(twin, EMERGENCY)
            before = len(log.episodes[0].now_s)
            log = run.log()
    stop = next(event for event in log.events if event.name == "stop")
    assert stop.code == log.episodes[0].result.code == "device_fault"
    assert stop.text.startswith(sentence)
    assert states(log) == [State.ACTIVE, State.STOPPED]
    if lockstep:
        assert len(log.episodes[0].now_s) <= before + 4
    else:
        assert stop.now_s + log.info.clock_offset_s - written_s < 0.25
    return log


REAL_TIME = pytest.param(False, marks=pytest.mark.alone, id="real time")
IN_BOTH_TIMES = pytest.mark.parametrize("lockstep", [pytest.param(True, id="lockstep"), REAL_TIME])


@IN_BOTH_TIMES
def test_a_stray_disarm(tmp_path, policy, lockstep):
    """The robot stands, whatever the run believes: it ends within a few periods, and says so."""
    sentence = "the device is disarmed, and this program did not disarm it"
    notice(tmp_path, policy, lockstep, device.DISARM, sentence)


@IN_BOTH_TIMES
def test_a_second_writer_with_higher_sequences(tmp_path, policy, lockstep):
    """Its command is obeyed; of a refused one the device would have told first."""
    sentence = f"another program writes to the device: it heard message {2**31}"
    payload = link.command_payload((0.9, 0.0), 150_000)
    options = {"sequence": 2**31, "payload": payload}
    log = notice(tmp_path, policy, lockstep, device.COMMAND, sentence, **options)
    if lockstep:  # else a STATE may be there before the wheels are faster
        assert log.episodes[0].signals["forward_speed"].max() > 0.45


@IN_BOTH_TIMES
def test_a_second_writer_that_is_refused(tmp_path, policy, lockstep):
    """What the device heard of it shows before this run's DISARM came: that is no refusal of it."""
    sentence = f"another program writes to the device: it refused message {2**31} (the message"
    payload = link.command_payload((0.9, 0.0), 150_000)
    options = {"sequence": 2**31, "payload": payload, "late_s": 0.5}
    notice(tmp_path, policy, lockstep, device.COMMAND, sentence, **options)


def test_a_second_deploy_is_told_that_the_port_is_taken(tmp_path, twin, policy):
    with runs.deployment(tmp_path / "run", twin.address, policy) as run:
        run.wait_for_steps(10)
        with runs.deployment(tmp_path / "second", twin.address, policy) as second:
            status, out, err = second.end()
        assert run.process.poll() is None, "the first goes on"
        assert (status, out) == (1, "")
        assert "another program has it; end that one first" in last_words(err)
        assert not second.out.exists()
        run.process.send_signal(signal.SIGTERM)
        assert run.end()[0] == 130


def test_a_pulled_port(tmp_path, policy):
    with (
        runs.twin(tmp_path, lockstep=True) as twin,
        runs.deployment(tmp_path / "run", twin.address, policy) as run,
    ):
        run.wait_for_steps(20)
        pid = run.policy
        twin.process.kill()
        status, _, err = run.end()
    assert status == 1
    assert "the port was lost" in last_words(err)
    assert runs.gone(pid)
    log = run.log()
    assert not log.torn
    assert log.episodes[0].result.code == "link_lost"


def test_a_policy_that_says_nan(tmp_path, twin):
    contract = drive_contract(episode_steps=200)
    path = write_bundle(tmp_path / "nan.onnx", contract, action=(0.4, 1.0), nan_at=0.9)
    with runs.deployment(tmp_path / "run", twin.address, path) as run:
        status, _, err = run.end()
    assert status == 1
    assert "the proposed action is [nan, nan]" in last_words(err)
    check_stopped(twin, EMERGENCY)
    (episode,) = run.log().episodes
    assert episode.result.code == "proposal_not_finite"
    assert episode.result.steps == 20
    assert states(run.log()) == [State.ACTIVE, State.STOPPED]
