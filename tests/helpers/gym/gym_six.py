"""A module that makes its environments itself, as safety_gymnasium does."""

from __future__ import annotations

from tests.helpers.gym.gym_envs import SixTuple

FAULTS = {"SixTuple-v0": "", "FourTuple-v0": "four"}


def make(env_id: str) -> SixTuple:
    if env_id not in FAULTS:
        raise KeyError(f"no {env_id} here")
    return SixTuple(named=True, fault=FAULTS[env_id])
