"""A device on a bench, and a host that numbers and times its messages rightly."""

from __future__ import annotations

from holdfast.robot.serial import device, link
from holdfast.robot.serial.device import Board, Device

WATCHDOG_US = 200_000
VALID_US = 100_000
STEP_US = 10_000


class Bench(Board):
    """Hardware on a bench: its clock is set by hand, and it writes down what it is told."""

    robot = "bench"
    hardware_id = "bench-1"
    signals = (("position", 2), ("tilt", 2))
    actions = ("forward_speed", "yaw_rate")
    action_low = (-1.0, -2.0)
    action_high = (0.35, 2.0)
    self_placing = True
    values = (0.5, -0.25, 0.1, 0.2)

    def __init__(self):
        self.time_us = 5_000_000
        self.motors = None
        self.told = []

    def now_us(self):
        return self.time_us

    def actuate(self, values):
        self.motors = values
        self.told.append(("actuate", values))

    def halt(self):
        self.motors = None
        self.told.append("halt")

    def measure(self):
        return self.values

    def replace(self):
        self.told.append("replace")

    def advance(self):
        self.time_us += 50_000


class Rig:
    """A device on the bench, and a host that numbers and times its messages rightly."""

    def __init__(self, board=None):
        self.board = board or Bench()
        self.device = Device(self.board)
        self.decoder = link.Decoder()
        self.sequence = 1000

    def feed(self, data):
        """Feed bytes; return the messages that come back."""
        self.device.feed(data)
        return self.decoder.feed(self.device.poll())

    def send(self, kind, payload=b"", *, sequence=None, age_us=0):
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        return self.feed(link.encode(kind, sequence, self.board.time_us - age_us, payload))

    def command(self, *values, valid_us=VALID_US, **options):
        return self.send(device.COMMAND, link.command_payload(values, valid_us), **options)

    def drive(self):
        for kind in (device.HELLO, device.RESET, device.ARM):
            self.send(kind)
        self.command(0.1, 0.2)
        assert self.board.motors == (0.1, 0.2)

    def wait(self, duration_us):
        """Let time pass in small steps; return the messages that come."""
        messages = []
        for _ in range(duration_us // STEP_US):
            self.board.time_us += STEP_US
            messages += self.feed(b"")
        return messages


def codes(messages):
    return [message.code for message in messages if isinstance(message, link.Fault)]


def state(messages):
    return [message for message in messages if isinstance(message, link.DeviceState)][-1]
