"""The checks that a robot may have, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.safety_monitor.checks.coasting import Coasting
from holdfast.safety_monitor.checks.consistency import Consistency
from holdfast.safety_monitor.checks.envelope import Envelope
from holdfast.safety_monitor.checks.following import Following
from holdfast.safety_monitor.checks.frozen import Frozen
from holdfast.safety_monitor.checks.geofence import Fence
from holdfast.safety_monitor.checks.obstacles import Obstacles
from holdfast.safety_monitor.checks.tracking import Tracking
from holdfast.safety_monitor.judge import Judge

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
