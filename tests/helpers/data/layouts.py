"""What the layouts for Foxglove and Lichtblick name: panels, topics and fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parents[3] / "config"
PATH = re.compile(r"(?P<topic>/?\w+(/\w+)*)(?P<fields>(\.\w+(\[\d+\])?)*)")
"""A message path, as far as the layouts use them: a topic, then fields."""

DRAWN = ("visualization_msgs/msg/MarkerArray", "sensor_msgs/msg/LaserScan")
"""Types of the layouts' topics that a 3D panel was seen to accept. Lichtblick draws no Odometry."""


def load(name: str) -> dict[str, Any]:
    """Return a layout; a repeated key would hide a panel."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads((CONFIG / f"foxglove_{name}.json").read_text(), object_pairs_hook=once)


def shown(tree: Any) -> Iterator[str]:
    """Yield the panels that a layout's tree shows."""
    if isinstance(tree, str):
        yield tree
    else:
        yield from shown(tree["first"])
        yield from shown(tree["second"])


def paths(layout: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the topics and fields (".twist.linear.x", or "") that the panels name."""
    named: list[str] = []
    for panel in layout["configById"].values():
        named += panel.get("topics", {})
        named += (path["value"] for path in panel.get("paths", ()))
        named += (panel[key] for key in ("topicPath", "topicToRender") if key in panel)
    found = [PATH.fullmatch(path) for path in named]
    assert all(found), named
    return [(match["topic"], match["fields"]) for match in found if match]


def in_3d(layout: dict[str, Any]) -> list[str]:
    """Return the topics that a 3D panel of a layout is to draw."""
    return [
        topic
        for name, panel in layout["configById"].items()
        if name.startswith("3D!")
        for topic in panel["topics"]
    ]


def value(message: Any, fields: str) -> Any:
    """Return the value of a message's field; fails if the message has no such field."""
    for name, index in re.findall(r"\.(\w+)(?:\[(\d+)\])?", fields):
        message = getattr(message, name)
        message = message[int(index)] if index else message
    return message
