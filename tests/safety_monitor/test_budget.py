import math

import pytest
from monitor_rig import CONTRACT

from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor import Check, State
from holdfast.safety_monitor.budget import Budget

LARGEST = (1.0, 1.0)


def budget(run=None, episode=None, largest=LARGEST, margin=None, on_prediction="slow"):
    return Budget(CONTRACT, largest, run, episode, margin, on_prediction)


def test_the_contract_s_episode_caps_hold_unless_tightened():
    assert budget().cap == (6.0, 3.0)
    assert budget({"far_outside": 2.0}).cap == (6.0, 2.0)
    assert budget({"far_outside": 2.0}).slowdown == (6.0, 2.0)
    assert budget({"far_outside": 2.0}, {"far_outside": 1.5}).slowdown == (6.0, 1.5)


@pytest.mark.parametrize("value", [6.0, 1.0])
def test_an_episode_cap_at_its_bounds(value):
    assert budget({"outside": value}).cap[0] == value


@pytest.mark.parametrize(
    "value", [math.nextafter(6.0, 7.0), math.nextafter(1.0, 0.0), 0.0, -1.0, math.nan, math.inf]
)
def test_an_episode_cap_beyond_them(value):
    with pytest.raises(ContractError) as caught:
        budget({"outside": value})
    assert str(caught.value) == (
        "cost 'outside': episode cap should be at least what one step can cost, 1.0, and at most "
        f"the contract's 6.0, received {value}"
    )


def test_a_contract_s_own_episode_cap_below_one_step():
    with pytest.raises(ContractError, match=r"at least what one step can cost, 3\.5"):
        budget(largest=(1.0, 3.5))


def test_unknown_costs():
    with pytest.raises(ContractError) as caught:
        budget({"outsid": 2.0, "far": 1.0})
    assert str(caught.value) == (
        "episode cap: unknown cost outsid, far; the contract has outside, far_outside"
    )
    with pytest.raises(ConfigError, match=r"^slowdown budget: unknown cost outsid;"):
        budget(None, {"outsid": 2.0})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nextafter(6.0, 7.0), math.nan])
def test_a_slowdown_budget_beyond_its_bounds(value):
    with pytest.raises(ConfigError) as caught:
        budget(None, {"outside": value})
    assert str(caught.value) == (
        "cost 'outside': slowdown budget should be above 0 and at most the episode cap 6.0, "
        f"received {value}"
    )
    assert budget(None, {"outside": 6.0}).slowdown == (6.0, 3.0)


def test_the_run_is_stopped_before_one_more_step_could_break_it():
    account, reasons = budget({"outside": 2.5}), []
    account.add((1.0, 0.0))
    account.add((0.5, 1.0))
    account.judge_run(reasons)
    assert reasons == []
    assert account.spent == (1.5, 1.0)
    account.add((0.25, 1.0))
    account.judge_run(reasons)
    (reason,) = reasons
    assert (reason.code, reason.state) == ("episode_cap_spent", State.STOPPED)
    assert reason.check is Check.BUDGET
    assert reason.text == "outside: 1.75 of 2.5 is spent and one step can cost 1"
    account.add((0.0, 1.0))
    account.judge_run(reasons)
    assert [reason.text[:7] for reason in reasons] == ["outside", "outside", "far_out"]


def test_an_episode_begins_with_nothing_spent():
    account = budget()
    account.add((1.0, 0.5))
    assert account.status((2.0, 3.0)).spent == (1.0, 0.5)
    account.begin()
    assert account.spent == (0.0, 0.0)


@pytest.mark.parametrize(
    ("ahead", "expected", "limited"),
    [
        (4.0, 5.0, False),
        (math.nextafter(4.0, 0), math.nextafter(5.0, 0), False),
        (4.0001, 5.0001, True),
        (0.0, 1.0, False),
        (-9.0, 1.0, False),
        (math.nan, math.nan, True),
        (math.inf, math.nan, True),
        (-math.inf, math.nan, True),
    ],
)
def test_prediction_against_the_slowdown_budget(ahead, expected, limited):
    account, reasons = budget(None, {"outside": 5.0}), []
    account.add((1.0, 0.0))
    first, second = account.judge_episode([ahead, 0.5], 40, reasons)
    assert first == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert second == 0.5
    assert [(r.check, r.code, r.state) for r in reasons] == (
        [(Check.BUDGET, "slowdown_budget", State.LIMITED)] if limited else []
    )


@pytest.mark.parametrize(
    ("rule", "over", "doubtful"),
    [
        ("go_on", None, State.LIMITED),
        ("slow", State.LIMITED, State.LIMITED),
        ("recover", State.FALLBACK, State.FALLBACK),
        ("stop", State.STOPPED, State.STOPPED),
    ],
)
def test_what_a_prediction_leads_to(rule, over, doubtful):
    account = budget(None, {"outside": 5.0}, on_prediction=rule)
    for ahead, expected in ((5.0, None), (5.1, over), (math.nan, doubtful), (math.inf, doubtful)):
        reasons = []
        predicted, _ = account.judge_episode([ahead, 0.5], 40, reasons)
        assert predicted == pytest.approx(ahead if math.isfinite(ahead) else math.nan, nan_ok=True)
        found = [(r.code, r.state) for r in reasons]
        assert found == ([] if expected is None else [("slowdown_budget", expected)])


@pytest.mark.parametrize(
    ("left", "ahead", "expected"),
    [
        (40, 1.0, 5.5),  # 1 spent, 1 expected, and all of the margin of 3.5
        (10, 1.0, 3.75),  # a quarter of the steps: half of the margin
        (10, -7.0, 2.75),
        (3, 1.0, 1.0 + 1.0 + 3.5 * math.sqrt(3.0 / 40.0)),
        (2, 1.5, 3.0),  # two steps cost at most 2
        (1, 9.0, 2.0),
        (0, 9.0, 1.0),
    ],
)
def test_a_margin_shrinks_with_the_root_of_what_is_left(left, ahead, expected):
    account, reasons = budget(margin=(3.5, 0.25)), []
    account.add((1.0, 0.0))
    first, second = account.judge_episode([ahead, 0.5], left, reasons)
    assert first == pytest.approx(expected, rel=1e-15)
    assert second == pytest.approx(min(0.5 + 0.25 * math.sqrt(left / 40.0), left), rel=1e-15)


def test_what_is_left_costs_at_most_what_its_steps_can():
    account = budget(largest=(2.0, 0.5), margin=(9.0, 9.0))
    assert account.judge_episode([1.0, 1.0], 1, []) == (2.0, 0.5)
    first, second = account.judge_episode([1.0, 1.0], 2, [])
    assert first == pytest.approx(1.0 + 9.0 * math.sqrt(0.05))
    assert second == 1.0


def test_a_margin_below_zero_predicts_no_less_than_what_is_spent():
    account = budget(margin=(-2.0, -2.0))
    account.add((1.0, 0.0))
    assert account.judge_episode([3.0, 1.0], 40, []) == (2.0, 0.0)


def test_the_reason_says_how_much_is_predicted():
    account, reasons = budget(), []
    account.judge_episode([7.5, math.nan], 40, reasons)
    assert [reason.text for reason in reasons] == [
        "outside: 7.5 predicted for this episode, 6 allowed",
        "far_outside: nan predicted for this episode, 3 allowed",
    ]


def test_without_a_prediction_there_is_none():
    account, reasons = budget(), []
    predicted = account.judge_episode(None, 40, reasons)
    assert reasons == []
    assert len(predicted) == 2
    assert all(map(math.isnan, predicted))


def test_status():
    status = budget({"outside": 4.0}).status((1.0, 2.0))
    assert (status.spent, status.predicted, status.episode_cap) == (
        (0.0, 0.0),
        (1.0, 2.0),
        (4.0, 3.0),
    )
