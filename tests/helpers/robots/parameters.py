"""Parameters of a robot, written as a file has them."""

from __future__ import annotations

from typing import Any

from holdfast.errors import ConfigError
from holdfast.schema import read
from holdfast.sim.parameters.catalogue import Parameters


def parameters(**data: Any) -> Parameters:
    """Return what a file with these keys says."""
    return read(Parameters, data, "parameters", ConfigError)
