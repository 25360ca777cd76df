import pytest
from monitor_rig import limits

from holdfast.safety_monitor import Check, Reason, State, reasons
from holdfast.safety_monitor.ladder import Ladder

LIMITS = limits(release_steps=3, fallback_max_s=1.0).ladder
MOVING = (State.FALLBACK, State.LIMITED, State.ACTIVE)


def stands():
    return True


def moves():
    return False


def reason(state, code="why"):
    return Reason(Check.ENVELOPE, code, state, "because")


def ladder(state, causes=()):
    made = Ladder(LIMITS)
    made.enter(state, causes)
    return made


def test_it_starts_stopped():
    made = Ladder(LIMITS)
    assert made.state is State.STOPPED
    assert made.causes == (reasons.POWER_ON(),)
    assert (made.causes[0].code, made.causes[0].state, made.causes[0].check) == (
        "power_on",
        State.STOPPED,
        Check.EVENT,
    )


@pytest.mark.parametrize("state", State)
def test_which_states_move(state):
    assert ladder(state).moving is (state in MOVING)


@pytest.mark.parametrize("state", MOVING)
@pytest.mark.parametrize("allowed", [*MOVING, State.STOPPED])
def test_every_moving_state_against_every_answer(state, allowed):
    made = ladder(state)
    made.judge(0.0, [reason(allowed)], moves)
    assert made.state is min(state, allowed)


@pytest.mark.parametrize("allowed", State)
def test_only_what_needs_a_reset_leads_out_of_ready(allowed):
    made = ladder(State.READY)
    why = reason(allowed)
    made.judge(0.0, [why], stands)
    if allowed is State.STOPPED:
        assert (made.state, made.causes) == (State.STOPPED, (why,))
    else:
        assert (made.state, made.causes) == (State.READY, ())


@pytest.mark.parametrize("allowed", State)
def test_nothing_judged_leads_out_of_stopped(allowed):
    made = Ladder(LIMITS)
    for step in range(20):
        made.judge(step * 1.0, [reason(allowed)], stands)
        made.judge(step * 1.0, [], moves)
    assert (made.state, made.causes) == (State.STOPPED, (reasons.POWER_ON(),))


def test_the_most_severe_answer_wins_and_is_the_cause():
    made = ladder(State.ACTIVE)
    stopped = [reason(State.STOPPED, "a"), reason(State.STOPPED, "b")]
    made.judge(0.0, [reason(State.LIMITED), stopped[0], reason(State.FALLBACK), stopped[1]], moves)
    assert (made.state, made.causes) == (State.STOPPED, tuple(stopped))


def test_up_one_rung_after_enough_clean_steps():
    made = ladder(State.ACTIVE)
    made.judge(0.0, [reason(State.FALLBACK)], moves)
    seen = []
    for step in range(7):
        made.judge(step * 0.01, [], moves)
        seen.append(made.state)
    assert seen == [State.FALLBACK] * 2 + [State.LIMITED] * 3 + [State.ACTIVE] * 2
    assert made.causes == ()


def test_a_rung_given_back_says_so():
    made = ladder(State.FALLBACK, (reason(State.FALLBACK),))
    for _ in range(3):
        made.judge(0.0, [], moves)
    (cause,) = made.causes
    assert (cause.code, cause.state, cause.check) == ("released", State.LIMITED, Check.EVENT)
    assert cause.text == "the fallback ended; slow until 3 more steps are clean"


@pytest.mark.parametrize("state", [State.LIMITED, State.FALLBACK])
def test_an_unclean_step_starts_the_count_again(state):
    made = ladder(state)
    for _ in range(5):
        made.judge(0.0, [], moves)
        made.judge(0.0, [], moves)
        made.judge(0.0, [reason(state)], moves)
        assert made.state is state
    assert made.causes == (reason(state),)


def test_a_lesser_reason_does_not_hold_a_fallback_but_holds_limited():
    made = ladder(State.FALLBACK)
    for _ in range(9):
        made.judge(0.0, [reason(State.LIMITED)], moves)
    assert made.state is State.LIMITED
    assert made.causes == (reason(State.LIMITED),)


def test_a_reason_that_allows_active_changes_nothing():
    made = ladder(State.ACTIVE)
    made.judge(0.0, [reason(State.ACTIVE)], moves)
    assert (made.state, made.causes) == (State.ACTIVE, ())


def test_a_fallback_ends_stopped_when_the_robot_stands():
    made = ladder(State.ACTIVE)
    made.judge(0.0, [reason(State.FALLBACK)], moves)
    made.judge(0.1, [reason(State.FALLBACK)], stands)
    assert made.state is State.STOPPED
    assert [cause.code for cause in made.causes] == ["why", "fallback_ended"]
    ended = made.causes[-1]
    assert (ended.check, ended.state) == (Check.EVENT, State.STOPPED)
    assert ended.text == "the controlled stop is complete"


def test_standing_ends_nothing_else():
    for state in (State.READY, State.LIMITED, State.ACTIVE):
        made = ladder(state)
        made.judge(0.0, [], stands)
        assert made.state is state


def test_a_fallback_ends_stopped_after_its_time():
    made = ladder(State.ACTIVE)
    made.judge(5.0, [reason(State.FALLBACK)], moves)
    for now_s in (5.5, 6.0):
        made.judge(now_s, [reason(State.FALLBACK)], moves)
        assert made.state is State.FALLBACK
    made.judge(6.001, [reason(State.FALLBACK)], moves)
    assert made.state is State.STOPPED
    assert made.causes[-1].text == "the controlled stop took longer than 1.0 s"


def test_every_fallback_has_its_own_time():
    made = ladder(State.ACTIVE)
    for start_s in (0.0, 10.0):
        made.judge(start_s, [reason(State.FALLBACK)], moves)
        assert made.state is State.FALLBACK
        for _ in range(3):
            made.judge(start_s + 0.9, [], moves)
        assert made.state is State.LIMITED


@pytest.mark.parametrize("state", State)
def test_stop_latches_from_any_state(state):
    made = ladder(state, (reason(state, "earlier"),))
    made.stop(reason(State.STOPPED, "e_stop"))
    assert made.state is State.STOPPED
    expected = ["earlier", "e_stop"] if state is State.STOPPED else ["e_stop"]
    assert [cause.code for cause in made.causes] == expected


def test_a_stop_that_is_repeated_is_said_once():
    made = Ladder(LIMITS)
    for _ in range(3):
        made.stop(reason(State.STOPPED, "e_stop"))
        made.stop(reason(State.STOPPED, "fault"))
    assert [cause.code for cause in made.causes] == ["power_on", "e_stop", "fault"]


def test_entering_forgets_the_clean_steps():
    made = ladder(State.LIMITED)
    made.judge(0.0, [], moves)
    made.judge(0.0, [], moves)
    made.enter(State.LIMITED)
    made.judge(0.0, [], moves)
    assert made.state is State.LIMITED


@pytest.mark.parametrize(
    ("steps", "slows_at"),
    [
        ("sss", 2),
        ("ss.s", 4),  # 1, 2, 1.5, 2.5, and then 3.5
        ("s.", 8),
        ("s..", None),
        (".........sss", 11),  # clean steps are not saved up
    ],
)
def test_slowing_takes_as_many_steps_as_it_triggers_after(steps, slows_at):
    """A clean step takes off half of what a step with a reason adds."""
    made = Ladder(limits(trigger_steps=3).ladder)
    made.enter(State.ACTIVE)
    slow = [reason(State.LIMITED)]
    for step, kind in enumerate(steps * 50):
        made.judge(0.0, slow if kind == "s" else [], moves)
        if step == slows_at:
            break
        assert (made.state, made.causes) == (State.ACTIVE, ())
    if slows_at is not None:
        assert (made.state, made.causes) == (State.LIMITED, tuple(slow))


def test_the_count_of_slow_steps_starts_anew_with_the_state():
    made = Ladder(limits(trigger_steps=2).ladder)
    for _ in range(3):
        made.enter(State.ACTIVE)
        made.judge(0.0, [reason(State.LIMITED)], moves)
        assert made.state is State.ACTIVE


@pytest.mark.parametrize("allowed", [State.FALLBACK, State.STOPPED])
def test_what_is_worse_acts_at_once(allowed):
    made = Ladder(limits(trigger_steps=9).ladder)
    made.enter(State.ACTIVE)
    made.judge(0.0, [reason(allowed)], moves)
    assert made.state is allowed


def test_within_limited_nothing_is_triggered_again():
    made = Ladder(limits(trigger_steps=3, release_steps=2).ladder)
    made.enter(State.LIMITED)
    for _ in range(4):
        made.judge(0.0, [], moves)
        made.judge(0.0, [reason(State.LIMITED)], moves)
        assert made.state is State.LIMITED


def test_entering_forgets_the_slow_steps():
    made = Ladder(limits(trigger_steps=2).ladder)
    for _ in range(3):
        made.enter(State.ACTIVE)
        made.judge(0.0, [reason(State.LIMITED)], moves)
        assert made.state is State.ACTIVE
