"""Serial ports and their clock: what is none, whose it is, and how old its messages are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from holdfast.errors import ConfigError, LinkError
from holdfast.robot.serial.port import ClockOffset, parse_address
from holdfast.robot.serial.robot import SerialRobot
from tests.helpers.robots import runs
from tests.helpers.robots.twins import DRIVER, connected, running_twin


def test_an_address_is_read():
    assert parse_address("serial:/dev/ttyACM0") == ("/dev/ttyACM0", 115200)
    assert parse_address("serial:/dev/ttyACM0?baud=921600") == ("/dev/ttyACM0", 921600)


@pytest.mark.parametrize(
    "address",
    ["/dev/ttyACM0", "serial:", "serial:?baud=9600", "serial:/dev/x?baud=fast", "serial:x?b=1", ""],
)
def test_another_address_is_refused(address):
    with pytest.raises(ConfigError, match=r"robot should be 'serial:PORT\[\?baud=N\]', received"):
        SerialRobot.connect(address)


@pytest.mark.parametrize("baud", ["0", "1199", "4000001", "9" * 20, "9" * 5000])
def test_a_speed_that_no_port_has_is_refused(baud):
    with pytest.raises(ConfigError, match=r"baud should be in \[1200, 4000000\], received"):
        SerialRobot.connect(f"serial:/dev/null?baud={baud}")


def test_a_port_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LinkError, match=f"{tmp_path}/none: there is no such port"):
        SerialRobot.connect(f"serial:{tmp_path}/none")


def test_a_file_is_not_a_port(tmp_path):
    (tmp_path / "file").write_text("hello")
    with pytest.raises(LinkError, match="file: not a serial port that can be opened"):
        SerialRobot.connect(f"serial:{tmp_path}/file")


def test_only_one_may_have_the_port():
    with running_twin("--realtime-factor", 0) as twin, connected(twin.address) as robot:
        with pytest.raises(LinkError, match="another program has it"):
            SerialRobot.connect(twin.address)
        robot.reset()
        robot.arm()


def opened_by_nobody(address):
    """Try to open a port as a program without privileges does; return what it is told."""
    path = address.removeprefix("serial:")
    privileged = os.geteuid() == 0
    if privileged:
        os.chmod(path, 0o666)
    return subprocess.run(
        ["/bin/sh", "-c", f": <> {path}"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        user=65534 if privileged else None,
    ).stderr


@pytest.mark.parametrize("ending", ["close", "kill"])
def test_no_other_program_can_open_the_port_meanwhile(ending):
    """Not even one that respects no lock; unless it is privileged. A killed host's claim ends."""
    with running_twin() as twin:
        assert opened_by_nobody(twin.address) == ""
        if ending == "close":
            with connected(twin.address):
                assert "Device or resource busy" in opened_by_nobody(twin.address)
        else:
            host = subprocess.Popen(
                [sys.executable, "-c", DRIVER, twin.address], stdout=subprocess.PIPE, text=True
            )
            host.stdout.readline()
            assert "Device or resource busy" in opened_by_nobody(twin.address)
            host.kill()
            host.wait()
            host.stdout.close()
        runs.until(lambda: opened_by_nobody(twin.address) == "", 5.0)


def test_the_offset_is_the_least_of_its_window():
    offset = ClockOffset(window_s=10.0)
    assert offset(100.0, 0.0) == 100.0
    assert offset(101.5, 1.0) == 100.0  # half a second late: its stamp says so
    assert offset(101.9, 2.0) == pytest.approx(99.9)
    assert offset(111.8, 11.0) == pytest.approx(99.9)
    assert offset(112.0, 11.1) == pytest.approx(100.8)  # the window left the best behind
