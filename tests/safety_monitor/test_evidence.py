import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, Rig

from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor import Check, Evidence, State
from holdfast.safety_monitor.evidence import BETS, FRACTIONS, EProcess

# The contract's limits d are 2 and 1, its episode caps 6 and 3: a share of one third each.


def test_bets_are_even_in_the_logarithm():
    assert len(FRACTIONS) == BETS
    assert (FRACTIONS[0], FRACTIONS[-1]) == (0.9, pytest.approx(0.02))
    ratios = [b / a for a, b in itertools.pairwise(FRACTIONS)]
    assert ratios == pytest.approx([ratios[0]] * (BETS - 1))


def test_an_e_process_by_hand():
    process = EProcess(0.25, 0.05)
    assert process.log_evidence == 0.0
    for x in (1.0, 0.25, 0.0):
        process.add(x)
    # Gains of 0.75, 0 and -0.25 at stakes of four times the fraction.
    wealth = [(1.0 + 3.0 * f) * (1.0 - f) for f in FRACTIONS]
    assert math.exp(process.log_evidence) == pytest.approx(sum(wealth) / BETS, rel=1e-12)
    assert (process.count, process.reached_at) == (3, None)


def test_evidence_is_latched_where_it_was_first_enough():
    process = EProcess(0.5, 0.25)
    log = []
    for x in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0):
        process.add(x)
        log.append(process.log_evidence)
    first = 1 + next(i for i, value in enumerate(log) if value >= math.log(4.0))
    assert process.reached_at == first == 5
    assert log[-1] < math.log(4.0)


def test_reaching_it_exactly_is_enough():
    exact, process = EProcess(0.5, 0.25), EProcess(0.5, 0.25)
    exact.add(1.0)
    process._enough = exact.log_evidence
    process.add(1.0)
    assert process.reached_at == 1


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.floats(0.01, 1.0), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_evidence_is_fair_at_its_hypothesis(mean, values):
    """One more value of expectation `mean` leaves the wealth as it is, on average."""
    process = EProcess(mean, 0.05)
    for x in values:
        process.add(x)
    before = math.exp(process.log_evidence)
    after = 0.0
    for x, probability in ((1.0, mean), (0.0, 1.0 - mean)):
        again = EProcess(mean, 0.05)
        again.restore(process.save())
        again.add(x)
        after += probability * math.exp(again.log_evidence)
    assert after == pytest.approx(before, rel=1e-9)


def test_it_never_overflows_and_never_fails():
    for mean in (0.0, 1e-9, 0.5, 1.0):
        for x in (0.0, 1.0):
            process = EProcess(mean, 0.05)
            for _ in range(3000):
                process.add(x)
            assert math.isfinite(process.log_evidence)


def test_a_hypothesis_of_nothing_falls_at_the_first_cost():
    process = EProcess(0.0, 0.05)
    process.add(0.0)
    assert process.reached_at is None
    process.add(0.5)
    assert process.reached_at == 2


def test_a_hypothesis_of_everything_never_falls():
    process = EProcess(1.0, 0.05)
    for _ in range(200):
        process.add(1.0)
    assert process.log_evidence == 0.0


def fed(episodes, complete=True, **settings):
    evidence = Evidence(CONTRACT, **settings)
    for spent in episodes:
        evidence.add(spent, complete)
    return evidence


def judged(evidence):
    reasons = []
    evidence.judge(reasons)
    assert {(r.check, r.state) for r in reasons} <= {(Check.BUDGET, State.STOPPED)}
    return {reason.code: reason.text for reason in reasons}


def test_episodes_that_cost_too_much_raise_the_alarm():
    evidence = fed([(4.0, 0.0)] * 6)
    assert judged(evidence) == {}
    for _ in range(9):
        if not judged(evidence):
            evidence.add((4.0, 0.0), True)
    assert 6 < evidence.episodes < 15
    assert judged(evidence) == {
        "mean_cost_exceeded": f"outside: the mean cost exceeds 2, evident after "
        f"{evidence.episodes} episodes"
    }
    first, second = evidence.costs
    assert (first.total, second.total) == (4.0 * evidence.episodes, 0.0)
    assert first.keeps.reached_at is None
    assert second.exceeds.reached_at is None


def test_episodes_that_cost_little_give_a_certificate():
    evidence = fed([(0.5, 0.0)] * 30)
    first, second = evidence.costs
    assert first.keeps.reached_at is not None
    assert second.keeps.reached_at < first.keeps.reached_at < 25
    assert judged(evidence) == {}


def test_episodes_at_the_limit_say_nothing():
    evidence = fed([(2.0, 1.0)] * 500)
    for cost in evidence.costs:
        assert cost.exceeds.log_evidence == pytest.approx(0.0, abs=1e-9)
        assert cost.keeps.log_evidence == pytest.approx(0.0, abs=1e-9)


def test_hitting_the_episode_cap_often_is_evident_though_the_mean_is_low():
    # One in five hits 6; the others cost nothing: a mean of 1.2 under a limit of 2.
    evidence = fed([(6.0, 0.0), *[(0.0, 0.0)] * 4] * 8)
    assert set(judged(evidence)) == {"episode_cap_often_hit"}
    assert judged(evidence)["episode_cap_often_hit"].startswith(
        "outside: more than 0.05 of episodes hit the episode cap, evident after "
    )


def test_a_hit_counts_as_one():
    (first, second), tolerated = fed([(6.0, 0.0)]).costs, EProcess(0.05, 0.05)
    tolerated.add(1.0)
    assert first.capped.log_evidence == tolerated.log_evidence
    tolerated = EProcess(0.05, 0.05)
    tolerated.add(0.0)
    assert second.capped.log_evidence == tolerated.log_evidence


def test_a_lower_cap_may_be_hit_more_often_and_the_reason_says_how_often():
    evidence = Evidence(CONTRACT, {"outside": 3.0})
    for _ in range(8):
        evidence.add((3.0, 0.0), True)
    assert judged(evidence)["episode_cap_often_hit"].startswith(
        "outside: more than 0.224 of episodes hit the episode cap, evident after "
    )


def test_what_one_more_step_could_break_has_hit_the_episode_cap():
    evidence = fed([(5.0, 2.0)])
    assert [math.exp(c.capped.log_evidence) < 1.0 for c in evidence.costs] == [True, True]
    evidence = fed([(5.001, 2.001)])
    assert [math.exp(c.capped.log_evidence) > 1.0 for c in evidence.costs] == [True, True]


@pytest.mark.parametrize(("spent", "complete"), [((0.0, 0.0), False), ((5.5, 2.5), True)])
def test_a_cost_that_is_not_fully_known_favours_neither_side(spent, complete):
    """It counts as what it was for the alarm, and as the episode cap for the certificate."""
    for cost, value in zip(fed([spent], complete).costs, spent, strict=True):
        exceeds, keeps = EProcess(1.0 / 3.0, 0.05), EProcess(1.0 - 1.0 / 3.0, 0.05)
        exceeds.add(value / cost.episode_cap)
        keeps.add(0.0)
        assert cost.exceeds.log_evidence == exceeds.log_evidence
        assert cost.keeps.log_evidence == keeps.log_evidence


def test_a_known_cost_counts_the_same_on_both_sides():
    cost = fed([(1.5, 0.0)]).costs[0]
    keeps = EProcess(1.0 - 1.0 / 3.0, 0.05)
    keeps.add(0.75)
    assert cost.keeps.log_evidence == keeps.log_evidence


def test_a_tightened_episode_cap_is_the_bound():
    cost = Evidence(CONTRACT, {"outside": 4.0}).costs[0]
    assert cost.episode_cap == 4.0
    exceeds = EProcess(0.5, 0.05)
    exceeds.add(0.25)
    cost.add(1.0, False, True)
    assert cost.exceeds.log_evidence == exceeds.log_evidence
    hits = EProcess(0.05 ** (2.0 / 3.0), 0.05)  # of the contract's cap of 6
    hits.add(0.0)
    assert cost.capped.log_evidence == hits.log_evidence
    below = Evidence(CONTRACT, {"outside": 1.5}).costs[0]  # below d: no mean can exceed it
    for _ in range(50):
        below.add(1.5, False, True)
    assert below.exceeds.reached_at is None


def test_alpha_and_the_tolerated_rate_of_hits_are_used():
    bold, meek = fed([(4.0, 0.0)] * 8, alpha=0.2), fed([(4.0, 0.0)] * 8, alpha=0.001)
    assert bold.costs[0].exceeds.reached_at is not None
    assert meek.costs[0].exceeds.reached_at is None
    hits = [(6.0, 0.0)] + [(0.0, 0.0)] * 4
    assert fed(hits * 8, cap_hit_rate=0.3).costs[0].capped.reached_at is None


@pytest.mark.parametrize("name", ["alpha", "cap_hit_rate"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan])
def test_probabilities_lie_between_0_and_1(name, value):
    with pytest.raises(ConfigError, match=f"evidence: {name} should be between 0 and 1"):
        Evidence(CONTRACT, **{name: value})


@pytest.mark.parametrize(
    "spent", [(6.001, 0.0), (-0.001, 0.0), (math.nan, 0.0), (0.0, 3.5), (1.0,), (1.0, 1.0, 1.0)]
)
def test_costs_that_no_episode_can_have(spent):
    evidence = Evidence(CONTRACT)
    with pytest.raises(ContractError, match=r"should be between 0 and \[6.0, 3.0\], received"):
        evidence.add(spent, True)
    assert evidence.episodes == 0


def test_a_loosened_episode_cap_is_refused():
    with pytest.raises(ContractError, match="episode cap should be"):
        Evidence(CONTRACT, {"outside": 6.5})


def test_a_single_cost_is_enough():
    evidence = Evidence(dataclasses.replace(CONTRACT, costs=CONTRACT.costs[:1]))
    evidence.add((1.0,), True)
    assert evidence.episodes == 1


# Saving.


def test_it_is_restored_to_the_bit_across_json():
    rng = np.random.default_rng(0)
    episodes = np.minimum(rng.gamma(1.0, 3.0, (60, 2)), [6.0, 3.0]).tolist()
    straight = fed(episodes)
    first = fed(episodes[:23])
    resumed = Evidence(CONTRACT)
    resumed.restore(json.loads(json.dumps(first.to_mapping())))
    assert resumed.episodes == 23
    for spent in episodes[23:]:
        resumed.add(spent, True)
    assert resumed.to_mapping() == straight.to_mapping()
    assert json.dumps(resumed.to_mapping()) == json.dumps(straight.to_mapping())


def test_what_is_saved_is_plain_even_without_json():
    first, resumed = fed([(2.5, 1.0)]), Evidence(CONTRACT)
    resumed.restore(first.to_mapping())
    assert resumed.to_mapping() == first.to_mapping() == json.loads(json.dumps(first.to_mapping()))


def test_what_was_evident_stays_so():
    evidence = fed([(4.0, 0.0)] * 20)
    resumed = Evidence(CONTRACT)
    resumed.restore(json.loads(json.dumps(evidence.to_mapping())))
    assert judged(resumed) == judged(evidence) != {}


def saved():
    return json.loads(json.dumps(fed([(1.0, 1.0)]).to_mapping()))


@pytest.mark.parametrize(
    "other",
    [
        Evidence(dataclasses.replace(CONTRACT, task="other")),
        Evidence(CONTRACT, {"outside": 5.0}),
        Evidence(CONTRACT, alpha=0.01),
        Evidence(CONTRACT, cap_hit_rate=0.01),
    ],
)
def test_evidence_of_something_else_is_refused(other):
    with pytest.raises(ConfigError, match="is of another contract, episode cap, alpha or"):
        other.restore(saved())
    assert other.episodes == 0


def test_malformed_evidence_is_refused_and_changes_nothing():
    evidence = fed([(2.5, 1.0)] * 3)
    before = evidence.to_mapping()
    for path, value, message in (
        (("alpha",), "0.05", "saved evidence.alpha should be a number"),
        (("costs",), None, "saved evidence.costs should be a list"),
        (("costs", 1, "keeps", "log_wealth"), [0.0], "log_wealth should hold 10 bets, received 1"),
        (("costs", 1, "keeps", "count"), 1.5, "should be a whole number"),
    ):
        data = saved()
        place = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(ConfigError, match=message):
            evidence.restore(data)
    with pytest.raises(ConfigError, match="saved evidence: missing costs"):
        evidence.restore({"contract_hash": "", "alpha": 0.1, "cap_hit_rate": 0.1})
    assert evidence.to_mapping() == before


EPISODE = st.tuples(
    st.one_of(st.sampled_from((0.0, 1e-9, 6.0)), st.floats(0.0, 6.0)),
    st.one_of(st.sampled_from((0.0, 1.0, 3.0)), st.floats(0.0, 3.0)),
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(EPISODE, st.booleans()), max_size=80), st.sampled_from((None, 2.0, 4.0)))
def test_whatever_was_counted_is_restored(episodes, outside):
    caps = None if outside is None else {"outside": outside}  # 2 is d: the alarm is then silent
    first, resumed = Evidence(CONTRACT, caps), Evidence(CONTRACT, caps)
    for (one, other), complete in episodes:
        first.add((min(one, outside or 6.0), other), complete)
    resumed.restore(json.loads(json.dumps(first.to_mapping())))
    assert resumed.to_mapping() == first.to_mapping()


def test_many_episodes_that_cost_almost_nothing_are_restored():
    first, resumed = fed([(1e-7, 1e-16)] * 20_000), Evidence(CONTRACT)
    resumed.restore(first.to_mapping())
    assert resumed.episodes == 20_000


def each(cost, **values):
    """Change an e-process, or all three where there is no name of one."""
    for name in ("exceeds", "keeps", "capped"):
        cost[name] |= values


RUIN, RICH = [-30.0] * BETS, [5.0] * BETS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cost: cost["keeps"].update(count=19), "counts of episodes should be alike and at"),
        (lambda cost: cost["capped"].update(count=21), "received 20, 20, 21"),
        (lambda cost: each(cost, count=-1), "received -1, -1, -1"),
        (lambda cost: cost.update(total=-5.0), "total should be between 0 and 120 after 20"),
        (lambda cost: cost.update(total=1e6), "under a cap of 6, received 1e\\+06"),
        (lambda cost: cost.update(total=60.0), "keeps.log_wealth should be between"),
        (lambda cost: cost["keeps"].update(log_wealth=RUIN), "received -30"),
        (lambda cost: cost["exceeds"].update(log_wealth=RICH), "exceeds.log_wealth should be"),
        (lambda cost: cost["capped"].update(log_wealth=[1e308] * BETS), "received 1e\\+308"),
        (lambda cost: cost["keeps"].update(reached_at=0), "what its log_wealth and its 20 epis"),
        (lambda cost: cost["keeps"].update(reached_at=21), "say, received 21"),
        (lambda cost: cost["keeps"].update(reached_at=2), "say, received 2$"),
        (lambda cost: cost["keeps"].update(reached_at=None), "say, received None"),
        (lambda cost: cost["exceeds"].update(reached_at=20), "exceeds.reached_at should be what"),
        (lambda cost: cost["capped"].update(reached_at=20), "capped.reached_at should be what"),
    ],
)
def test_evidence_that_no_episodes_lead_to_is_refused(change, message):
    evidence, data = Evidence(CONTRACT), fed([(0.1, 0.1)] * 20).to_mapping()
    assert data["costs"][0]["keeps"]["reached_at"] == pytest.approx(10, abs=5)
    change(data["costs"][0])
    with pytest.raises(ConfigError, match=message):
        evidence.restore(json.loads(json.dumps(data)))
    assert evidence.episodes == 0


def test_the_costs_count_the_same_episodes():
    evidence, data = Evidence(CONTRACT), fed([(0.1, 0.1)] * 20).to_mapping()
    data["costs"][1] = fed([(0.1, 0.1)] * 19).to_mapping()["costs"][1]
    with pytest.raises(
        ConfigError, match=r"the costs' counts of episodes should be alike.* 20, 19"
    ):
        evidence.restore(data)


def test_a_certificate_of_nothing_is_refused():
    data = Evidence(CONTRACT).to_mapping()
    data["costs"][0]["keeps"]["reached_at"] = 3
    with pytest.raises(ConfigError, match=r"keeps.reached_at should be what"):
        Evidence(CONTRACT).restore(data)


# In the monitor.


def test_what_is_evident_refuses_another_episode():
    evidence = fed([(4.0, 0.0)] * 20)
    rig = Rig(evidence=evidence)
    rig.step()
    refusals = rig.monitor.reset(rig.look())
    assert [reason.code for reason in refusals] == ["mean_cost_exceeded"]
    rig = Rig(evidence=Evidence(CONTRACT)).to_ready()
    rig.monitor._evidence = evidence
    refusals = rig.monitor.arm(rig.look())
    assert [reason.code for reason in refusals] == ["mean_cost_exceeded"]


def test_evidence_does_not_end_an_episode_that_goes_on():
    evidence = Evidence(CONTRACT)
    rig = Rig(evidence=evidence).to_active()
    for _ in range(20):
        evidence.add((4.0, 0.0), True)
    assert rig.step((0.1, 0.0)).state is State.ACTIVE


@pytest.mark.parametrize("share", [1.0, 1.5])
def test_alarms_are_rare_at_the_limit_and_frequent_above(share):
    """A small version of benchmarks/evidence.py."""
    rng = np.random.default_rng(3)
    high = 6.0 * share / 3.0 / 0.5  # half of all episodes cost this, the others nothing
    alarms = 0
    for _ in range(150):
        evidence = EProcess(1.0 / 3.0, 0.05)
        for x in rng.integers(0, 2, 120) * high / 6.0:
            evidence.add(x)
        alarms += evidence.reached_at is not None
    assert alarms / 150 <= 0.1 if share == 1.0 else alarms / 150 >= 0.7
