"""The checks that a robot may have, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.safety_monitor.coasting import Coasting
from holdfast.safety_monitor.consistency import Consistency
from holdfast.safety_monitor.envelope import Envelope
from holdfast.safety_monitor.following import Following
from holdfast.safety_monitor.frozen import Frozen
from holdfast.safety_monitor.geofence import Fence
from holdfast.safety_monitor.judge import Judge
from holdfast.safety_monitor.obstacles import Obstacles
from holdfast.safety_monitor.tracking import Tracking

CHECKS: Mapping[str, type[Judge]] = {
    "envelope": Envelope,
    "geofence": Fence,
    "obstacles": Obstacles,
    "coasting": Coasting,
    "tracking": Tracking,
    "following": Following,
    "consistency": Consistency,
    "frozen": Frozen,
}
"""Each by the name of its block in a robot's `monitor` section; without its block it is off."""
