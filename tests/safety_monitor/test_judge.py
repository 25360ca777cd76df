"""The protocol of a check: one that is not in the package does what the package's own do."""

import dataclasses

import pytest
from monitor_rig import CONTRACT, LIMITS, PLAIN_LIMITS, Rig, check, codes, limits, seen

from holdfast.errors import ConfigError
from holdfast.safety_monitor import Check, Limits, Monitor, State
from holdfast.safety_monitor.checks import CHECKS
from holdfast.safety_monitor.judge import Judge, Motion, When, refuse, require_above_0
from holdfast.safety_monitor.limits import BLOCKS
from holdfast.safety_monitor.reasons import EPISODE, Kind

TOO_LONG = Kind("too_long", Check.ENVELOPE, (State.STOPPED,), EPISODE, "{steps} steps", "Long.")


@dataclasses.dataclass(frozen=True)
class LengthLimits:
    most_steps: int
    from_step: int = 0

    def __post_init__(self):
        require_above_0(self, "length", ("most_steps",))


class Length(Judge):
    """Stops an episode after so many steps in motion."""

    block = LengthLimits
    when = When.MOTION
    signals = ("height",)

    def __init__(self, limits, motion):
        self._limits = limits
        self.forget()

    def require(self, contract):
        if self._limits.most_steps > contract.episode_steps:
            raise refuse("length", "most_steps should be at most the contract's episode_steps")

    def forget(self):
        self.steps = self._limits.from_step

    def judge(self, seen):
        self.steps += 1
        if self.steps > self._limits.most_steps:
            seen.reasons.append(TOO_LONG(steps=self.steps))


@pytest.fixture
def listed(monkeypatch):
    """Put the line that lists a check."""
    monkeypatch.setitem(CHECKS, "length", Length)
    monkeypatch.setitem(BLOCKS, "length", LengthLimits)


class HighRig(Rig):
    def signals(self):
        return {**super().signals(), "height": seen(values={"height": [0.1]}).arrays["height"]}


def test_a_check_is_a_file_a_line_and_a_block(listed):
    made = Limits.from_mapping({**PLAIN_LIMITS, "length": {"most_steps": 3}})
    assert made.checks["length"] == LengthLimits(3, 0)
    assert Limits.from_mapping(made.to_plain()) == made
    rig = HighRig(made).to_active()
    assert [rig.step().state for _ in range(4)] == [State.ACTIVE] * 3 + [State.STOPPED]
    assert "too_long" in codes(rig.step().reasons)
    rig.monitor.begin_episode(rig.now_s)
    rig.to_active()
    assert [rig.step().state for _ in range(4)] == [State.ACTIVE] * 3 + [State.STOPPED]


def test_what_a_check_needs_is_required(listed):
    made = Limits.from_mapping({**PLAIN_LIMITS, "length": {"most_steps": 3}})
    assert "height" in Monitor(CONTRACT, made).required
    assert "height" not in Monitor(CONTRACT, LIMITS).required
    rig = Rig(made)
    assert {"signal_missing"} <= codes(rig.step().reasons)


def test_its_limits_are_read_as_strictly_as_any(listed):
    for block, sentence in (
        ({"most_steps": 0}, "length: most_steps should be finite and above 0, received 0"),
        ({}, "length: missing most_steps"),
        ({"most_step": 3}, "length: unknown most_step; did you mean 'most_steps'?"),
        ({"most_steps": 1.5}, "length.most_steps should be a whole number, received 1.5"),
    ):
        with pytest.raises(ConfigError) as caught:
            Limits.from_mapping({**PLAIN_LIMITS, "length": block})
        assert str(caught.value) == f"monitor limits.{sentence}"
    made = Limits.from_mapping({**PLAIN_LIMITS, "length": {"most_steps": 41}})
    with pytest.raises(ConfigError, match=r"^monitor limits\.length: most_steps should be at most"):
        Monitor(CONTRACT, made)


def test_limits_from_before_a_check_know_nothing_of_it(listed):
    assert Limits.from_mapping(PLAIN_LIMITS) == LIMITS
    rig = Rig(LIMITS).to_active()
    assert [rig.step().state for _ in range(5)] == [State.ACTIVE] * 5


def test_a_check_need_neither_require_nor_forget():
    """One that remembers nothing, and that no contract contradicts, is asked all the same."""
    for name in ("obstacles", "geofence"):
        made = check(name, limits(footprint_radius_m=0.25))
        made.forget()
        told = seen(values={"scan": [0.1] * 36, "position": [9.0, 0.0], "heading": [0.0],
                            "forward_speed": [0.0]})  # fmt: skip
        made.judge(told)
        assert len(told.reasons) == 1


def test_a_check_that_cannot_judge_cannot_be_made():
    class Mute(Judge):
        def __init__(self, limits, motion):
            pass

    with pytest.raises(TypeError):
        Mute(None, LIMITS.motion)


@pytest.mark.parametrize("speed_m_s", [0.0, 1.0, 3.0])
def test_the_time_of_a_stop(speed_m_s):
    motion = Motion(2.0, 0.25, 0.5, 0.0625, 0.125, 0.5)
    assert speed_m_s * motion.stopping_s(speed_m_s) == 0.25 * speed_m_s + speed_m_s**2 / 4.0
