"""`dds:CONFIG`: a robot of a ROS graph, reached without ROS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import parse_qsl

from holdfast.contract import Contract
from holdfast.errors import ConfigError, LinkError
from holdfast.robot import config as configs
from holdfast.robot.config import RobotConfig
from holdfast.robot.dds.discovery import domain_id
from holdfast.robot.dds.graph import DdsGraph
from holdfast.robot.topics.robot import TopicRobot

SCHEME = "dds:"
NODE = "holdfast"

FOUND_S = 3.0
"""How long the robot's topics have to be found, and then to say something."""

SETTLE_S = 0.3
"""Seconds after the robot was found until all other publishers are known."""


class DdsRobot(TopicRobot):
    """A `TopicRobot` that joins the graph by itself.

    Args:
        required: signals that are needed beside those that the contract observes.

    Raises:
        ConfigError: the address is written otherwise, or its topics lack something.
        LinkError: nobody publishes one of its topics, or somebody else commands the robot.
    """

    def __init__(
        self, address: str, config: RobotConfig, contract: Contract, required: Collection[str]
    ) -> None:
        _, options = parse_address(address)
        section = config.topics()
        section.require_fit(contract, required)
        namespace = options.get("namespace", "").strip("/")
        namespace = f"/{namespace}" if namespace else ""
        graph = self._graph_of_its_own = DdsGraph(options.get("node", NODE), namespace)
        try:
            hardware_id = f"{config.robot}@{namespace or '/'}"
            topics = [source.topic for source in section.sources.values()]
            if _within(FOUND_S, lambda: all(map(graph.publishers, topics))):
                time.sleep(SETTLE_S)
            super().__init__(graph, section, contract, config.robot, hardware_id)
            if not _within(FOUND_S, lambda: not self.silent()):
                raise LinkError(
                    f"nothing came on {', '.join(self.silent())} in {FOUND_S:g} s "
                    f"(ROS_DOMAIN_ID {domain_id(os.environ)}, namespace '{namespace or '/'}')"
                )
        except BaseException:
            graph.close()
            raise

    def close(self) -> None:
        """Stop the robot, and leave the graph."""
        super().close()
        self._graph_of_its_own.close()


def _within(limit_s: float, condition: Callable[[], bool]) -> bool:
    """Wait until something is so; return whether it came to be in time."""
    deadline_s = time.monotonic() + limit_s
    while not (found := condition()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return found


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


def connect(
    address: str, config: RobotConfig, contract: Contract, required: Collection[str]
) -> DdsRobot:
    """Return the robot whose topics a configuration names."""
    return DdsRobot(address, config, contract, required)
