"""A small cart and a task for it, as a user writes them; models of it with more in its world."""

import numpy as np

from holdfast.contract import ActionChannel, Cost, ObservationChannel
from holdfast.sim.robots.robot import FreeBase
from holdfast.sim.tasks.task import Task, contract_for

RADIUS_M, TRACK_M = 0.05, 0.30
WHEELS = "".join(
    f'<body name="{side}" pos="0 {y} 0"><joint name="{side}_wheel" axis="0 1 0" armature="0.002" '
    'damping="0.01"/><geom type="ellipsoid" size="0.05 0.05 0.02" euler="90 0 0" mass="0.2"/>'
    "</body>"
    for side, y in (("left", 0.15), ("right", -0.15))
)
SKID = (  # of a contact's two frictions the larger counts, but for a geom with priority
    '<geom type="sphere" size="0.02" pos="-0.13 0 -0.03" mass="0.05" condim="1" priority="1"/>'
)
BALL = (
    '<body pos="-0.13 0 -0.03"><joint name="caster" type="ball"/>'
    '<geom type="sphere" size="0.02" mass="0.05"/></body>'
)
CRATE = (
    '<body name="crate" pos="1.5 0.2 0.1"><freejoint/>'
    '<geom type="box" size="0.1 0.1 0.1" mass="1"/></body>'
)
OTHER = CRATE.replace("crate", "other").replace("1.5 0.2", "1.5 -0.8")
ACTUATORS = '<velocity joint="left_wheel" kv="1"/><velocity joint="right_wheel" kv="1"/>'


def mjcf(caster=SKID, before="", after="", free="<freejoint/>", actuators=ACTUATORS, more=""):
    return (
        '<mujoco><option timestep="0.01" integrator="implicitfast"/><worldbody>'
        f'<geom type="plane" size="9 9 0.1"/>{before}<body name="base" pos="0 0 0.05">{free}'
        f'<geom type="box" size="0.15 0.12 0.03" mass="3"/>{WHEELS}{caster}</body>{after}'
        f"</worldbody><actuator>{actuators}</actuator>{more}</mujoco>"
    )


class Cart(FreeBase):
    """Two wheels, commanded by forward speed and yaw rate."""

    name = "cart"
    period_s = 0.05
    action = (
        ActionChannel("forward_speed", "m/s", -0.5, 0.5, max_rate_per_s=2.0),
        ActionChannel("yaw_rate", "rad/s", -1.5, 1.5, max_rate_per_s=6.0),
    )

    def __init__(self, file, text):
        self.model_file = file
        if text is not None:
            file.write_text(text)

    def control(self, action):
        forward, turn = action[..., 0], action[..., 1] * TRACK_M / 2.0
        return np.stack((forward - turn, forward + turn), axis=-1) / RADIUS_M


class Laps(Task):
    def __init__(self, robot):
        self.robot = robot
        self.contract = contract_for(
            "mine/Laps-v0",
            robot,
            (
                ObservationChannel("position", 2, "m", "position"),
                ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
                ObservationChannel("joint_velocity", 2, "rad/s", "joint_velocity"),
                ObservationChannel("applied_action", 2, "1", "applied_action"),
            ),
            100,
            Cost("outside", "abs(position.x) > 0.5", 5.0, 15.0, 0.99, 0.95),
        )

    def reset(self, rng, n):
        return *self.robot.start(rng, n, within_m=0.3), {}

    def reward(self, signals):
        return signals["forward_speed"][..., 0]
