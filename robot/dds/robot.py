"""`dds:CONFIG`: a robot of a ROS graph, reached without ROS."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import parse_qsl

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.robot.config import RobotConfig
from holdfast.robot.dds.graph import DdsGraph
from holdfast.robot.topic_robot import TopicRobot

SCHEME = "dds:"
NODE = "holdfast"

FOUND_S = 3.0
"""How long the robot's emergency stop has to be found; without it, arming says what is missing."""


class DdsRobot(TopicRobot):
    """A `TopicRobot` that has a graph of its own."""

    def __init__(
        self, address: str, config: RobotConfig, contract: Contract, required: Collection[str]
    ) -> None:
        """Join the graph; use `connect`."""
        _, options = parse_address(address)
        section = config.topics()
        section.require_fit(contract, required)
        namespace = options.get("namespace", "").strip("/")
        namespace = f"/{namespace}" if namespace else ""
        self._graph_of_its_own = DdsGraph(options.get("node", NODE), namespace)
        try:
            hardware_id = f"{config.robot}@{namespace or '/'}"
            super().__init__(self._graph_of_its_own, section, contract, config.robot, hardware_id)
        except BaseException:
            self._graph_of_its_own.close()
            raise
        # What is latched arrives once its topic is found, after measurements perhaps.
        limit_s = time.monotonic() + FOUND_S
        while None in self._hardware.values() and time.monotonic() < limit_s:
            time.sleep(0.01)

    def close(self) -> None:
        """Stop the robot, and leave the graph."""
        super().close()
        self._graph_of_its_own.close()


def parse_address(address: str) -> tuple[Path, dict[str, str]]:
    """Return configuration file and options of "dds:CONFIG[?namespace=NAME&node=NAME]".

    CONFIG is a file, or the name of a robot whose file is installed.

    Raises:
        ConfigError: it is written otherwise, or there is no such file.
    """
    where, _, query = address.removeprefix(SCHEME).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not address.startswith(SCHEME) or not where or not options.keys() <= {"namespace", "node"}:
        raise ConfigError(
            f"robot should be 'dds:CONFIG[?namespace=NAME&node=NAME]', received '{address}'"
        )
    path = Path(where)
    return (path if path.suffix else configs.find(where)), options
