"""The algorithms by name, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.policy.algorithms.algorithm import Algorithm
from holdfast.policy.algorithms.cpo import CPO
from holdfast.policy.algorithms.focops import FOCOPS
from holdfast.policy.algorithms.lagrangian import PDO, PPOLagrangian
from holdfast.policy.algorithms.off_policy import OffPolicy
from holdfast.policy.algorithms.pcpo import PCPO
from holdfast.policy.algorithms.penalty import PPOPenalty, TRPOPenalty
from holdfast.policy.algorithms.ppo import PPO
from holdfast.policy.algorithms.ppo_kl import PPOKL
from holdfast.policy.algorithms.trpo import TRPO
from holdfast.policy.algorithms.trpo_vine import TRPOVine

ALGORITHMS: Mapping[str, type[Algorithm[Any]]] = {
    "cpo": CPO,
    "pcpo": PCPO,
    "focops": FOCOPS,
    "trpo": TRPO,
    "trpo-vine": TRPOVine,
    "ppo": PPO,
    "ppo-kl": PPOKL,
    "pdo": PDO,
    "ppo-lagrangian": PPOLagrangian,
    "trpo-penalty": TRPOPenalty,
    "ppo-penalty": PPOPenalty,
    "off-policy": OffPolicy,
}
