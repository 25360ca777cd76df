"""Bundles made to do harm, sealed so that their digest fits."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest

from holdfast.bundle import reader as bundles
from holdfast.errors import BundleError
from tests.helpers.data.bundles import build, drive_contract


def model_of() -> onnx.ModelProto:
    return onnx.load_from_string(build(drive_contract()))


def sealed(model: onnx.ModelProto) -> bytes:
    for entry in model.metadata_props:
        if entry.key == "holdfast_digest":
            entry.value = bundles.PLACEHOLDER
    return bundles.seal(model.SerializeToString(deterministic=True))


def refusal(data: bytes, tmp_path: Path) -> str:
    """Return why these bytes are refused, which takes less than seconds and is one sentence."""
    path = tmp_path / "policy.onnx"
    path.write_bytes(data)
    began_s = time.monotonic()
    with pytest.raises(BundleError) as caught:
        bundles.load(path)
    assert time.monotonic() - began_s < 10.0
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")
