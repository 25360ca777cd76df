"""Training end to end on small batches: the same seed, the same run; what is refused."""

import dataclasses

import pytest
import torch

from holdfast.errors import TrainingError
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.policy.models import checkpoint
from holdfast.sim.registry import resolve
from tests.helpers.robots.parameters import parameters

SMALL = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, iterations=4, batch=1040, critic_steps=5
)


def stripped(record):
    return {k: v for k, v in record.items() if k not in ("seconds", "steps_per_s")}


def test_same_seed_same_run_other_seed_another():
    a, b = Learner(SMALL), Learner(SMALL)
    c = Learner(dataclasses.replace(SMALL, seed=4))
    records = [[stripped(learner.iterate()) for _ in range(2)] for learner in (a, b, c)]
    assert records[0] == records[1]
    assert records[0] != records[2]


def test_updates_hold_costs_to_a_lower_limit_where_a_caller_gives_one():
    generous = dataclasses.replace(SMALL, limit=(1000.0,))
    own, lowered = Learner(generous), Learner(generous)
    lowered.limit = own.limit * 0.0
    records = [own.iterate(), lowered.iterate()]
    assert records[0]["costs"] == records[1]["costs"] != {"point_outside": 0.0}
    assert [record["case"] for record in records] == ["reward", "recovery"]
    assert lowered.contract == own.contract
    own.close()
    lowered.close()


def test_a_new_scale_of_observations_changes_the_policy_by_nothing_beside_its_step():
    """Critics and policy say the same of a batch before and after the normaliser has read it."""
    learner = Learner(dataclasses.replace(SMALL, shaping=ShapingSettings(horizon=4)))
    learner.iterate()
    seen = torch.from_numpy(learner.batch.reset()).float().repeat(20, 1) * 1.5
    networks = (learner.policy, learner.networks.critic, learner.predictor)
    before = [network(learner.normaliser(seen)).detach() for network in networks]
    scaled = learner.normaliser(seen)
    learner.renormalise(2.0 * seen + 1.0)
    assert float((learner.normaliser(seen) - scaled).abs().max()) > 0.1
    for network, values in zip(networks, before, strict=True):
        now = network(learner.normaliser(seen)).detach()
        torch.testing.assert_close(now, values, rtol=1e-3, atol=1e-3)
    learner.close()


def test_a_randomised_run_goes_on_bit_for_bit(tmp_path):
    wild = parameters(mass=[0.5, 2.0], delay=[0, 2], noise={"position": 0.1})
    whole, half = (Learner(dataclasses.replace(SMALL, randomise=wild)) for _ in range(2))
    records = [stripped(whole.iterate()) for _ in range(4)]
    for _ in range(2):
        half.iterate()
    half.save(tmp_path / "c.safetensors")
    resumed = Learner.load(tmp_path / "c.safetensors")
    assert [stripped(resumed.iterate()) for _ in range(2)] == records[2:]
    nominal = Learner(SMALL)
    assert stripped(nominal.iterate()) != records[0]


def test_sums_do_not_round_by_how_many_threads_torch_was_given():
    torch.set_num_threads(2)
    Learner(TrainSettings(task=resolve("PointCircle-v0"), batch=65)).close()
    assert torch.get_num_threads() == 1


def test_the_number_of_threads_changes_nothing():
    """Of the physics; torch has one, whatever the machine has."""
    settings = dataclasses.replace(SMALL, batch=9100)
    runs = []
    for threads in (1, 3):
        learner = Learner(settings)
        learner.batch.close()
        learner.batch = settings.task.batch(learner.batch.copies, settings.seed, threads)
        learner.collector.batch = learner.batch
        runs.append([stripped(learner.iterate()) for _ in range(2)])
        learner.close()
    assert runs[0] == runs[1]


def test_the_networks_are_not_handed_out_while_they_are_fitted():
    """Right after an iteration the critics are still being fitted; who looks waits for them."""
    learner = Learner(dataclasses.replace(SMALL, critic_steps=300))
    learner.iterate()
    first = [p.detach().clone() for p in learner.networks.critic.parameters()]
    learner.fitting.wait()
    second = learner.networks.critic.parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    learner.close()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x00" * 64])
def test_damaged_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="not a checkpoint"):
        Learner.load(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ('{"__metadata__":{"format":"holdfast-checkpoint-3","format":"x"}}', "is there twice"),
        ('{"__metadata__":{}}', "format should be holdfast-checkpoint-3, received none"),
        ("{}", "format should be holdfast-checkpoint-3, received none"),
        ('{"__metadata__":{"format":"\\u0007%s"}}' % ("x" * 9999), r"received \\x07x+\.\.\.$"),
        ('{"__metadata__":{"format":"holdfast-checkpoint-3"}}', "not a checkpoint"),
    ],
    ids=["twice", "empty", "none", "long", "no data"],
)
def test_a_checkpoint_s_header_is_plain_data(tmp_path, header, said):
    path = tmp_path / "c.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(TrainingError, match=said):
        Learner.load(path)


def test_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="No such file"):
        Learner.load(tmp_path / "none.safetensors")


def test_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(checkpoint, "FORMAT", "holdfast-checkpoint-1")
    Learner(SMALL).save(path)
    monkeypatch.undo()
    with pytest.raises(
        TrainingError,
        match="format should be holdfast-checkpoint-3, received holdfast-checkpoint-1",
    ):
        Learner.load(path)


def test_checkpoint_of_another_contract_is_refused(tmp_path):
    learner = Learner(SMALL)
    path = tmp_path / "c.safetensors"
    learner.save(path)
    held, data = checkpoint.load(path)
    data["contract"] = data["contract"].replace('"period_s":0.1', '"period_s":0.2')
    checkpoint.save(path, held, data)
    with pytest.raises(TrainingError, match="what differs is period_s"):
        Learner.load(path)
