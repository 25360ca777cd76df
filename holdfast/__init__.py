"""Train a policy under a cost budget, run it on a robot under the same budget, learn from it."""

import os

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime tells its maker of every model that it loads, from a thread with a
# database and a network connection, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

DISTRIBUTION = "holdfast-robot"
"""The name that pip knows; `holdfast` on PyPI is somebody else's package."""


def how_to_install(extra: str = "") -> str:
    """Return the command that installs this package with an extra."""
    brackets = f"[{extra}]" if extra else ""
    return f"pip install '{DISTRIBUTION}{brackets}', or '.{brackets}' from a checkout"
