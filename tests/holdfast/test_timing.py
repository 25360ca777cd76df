"""The time that costs take, measured where a contract is loaded."""

from __future__ import annotations

import time

import pytest

from holdfast.bundle import reader
from holdfast.bundle.contract_file import load_contract
from holdfast.bundle.timing import require_quick_costs
from holdfast.contract import Cost, DeclaredSignal, ObservationChannel
from holdfast.errors import BundleError, ContractError
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.data.foreign import contract as written

WIDE = DeclaredSignal("wide", 100_000, "1")


def slow(period_s):
    """Two costs of a signal of 100,000 values: far more than 2.5 ms on any machine of today."""
    text = "sum(wide ** 8) + sum(sqrt(abs(wide)) ** 8) > 0"
    costs = tuple(Cost(f"c{k}", text, 10.0, 30.0, 1.0, 0.95) for k in range(2))
    return drive_contract(signals=(WIDE,), costs=costs, period_s=period_s)


def test_costs_that_take_too_long_are_refused(tmp_path):
    sentence = "take .* s here or more; that should be at most 5% of its period of 0.05 s"
    with pytest.raises(ContractError, match=sentence):
        require_quick_costs(slow(0.05))
    with pytest.raises(BundleError, match=sentence):
        reader.load(write_bundle(tmp_path / "policy.onnx", slow(0.05)))
    assert require_quick_costs(slow(60.0)) > 0.0025  # it measured them, and not the period


def test_the_most_costs_of_the_longest_signal_are_refused_soon():
    """Not after all of them: the 64 costs of one step would take some ten seconds, three times."""
    costs = tuple(
        Cost(f"c{k}", "+".join(["sum(wide ** 8)"] * 40) + " > 0", 10.0, 30.0, 1.0, 0.95)
        for k in range(64)
    )
    began_s = time.process_time()
    with pytest.raises(ContractError, match="that should be at most 5%"):
        require_quick_costs(drive_contract(signals=(WIDE,), costs=costs))
    assert time.process_time() - began_s < 10.0


def test_a_contract_s_file_is_measured_too(tmp_path):
    path = written(
        tmp_path,
        ("abs(position.x) > 0.9", "sum(wide ** 8) + sum(sqrt(abs(wide)) ** 8) > 0"),
        ("observation:", "signals:\n  - {name: wide, size: 100000, unit: '1'}\nobservation:"),
        ("period_s: 0.05", "period_s: 0.001"),
    )
    with pytest.raises(ContractError, match=r"contract\.yaml: contract: the costs of one step"):
        load_contract(path)


def test_ordinary_costs_take_no_time(tmp_path):
    assert require_quick_costs(drive_contract()) < 1e-4
    observed = ObservationChannel("scan", 36, "m", "scan")
    near = Cost("near", "scan.min < 0.3", 10.0, 30.0, 1.0, 0.95)
    contract = drive_contract(observation=(*drive_contract().observation, observed), costs=(near,))
    assert require_quick_costs(contract) < 1e-4
