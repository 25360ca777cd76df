"""FreeBase: which body is the base, what its model may hold besides, and models with a mistake."""

import mujoco
import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.check import check_task
from tests.helpers.robots.carts import ACTUATORS, BALL, CRATE, OTHER, SKID, Cart, Laps, mjcf


@pytest.fixture
def cart(tmp_path):
    return lambda text: Cart(tmp_path / "cart.xml", text)


WORLDS = {
    "alone": mjcf(),
    "ball caster": mjcf(BALL),
    "crate after": mjcf(after=CRATE),
    "crate before": mjcf(before=CRATE),
    "crates and a ball": mjcf(BALL, before=CRATE, after=OTHER),
}


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_whatever_else_is_free_the_base_is_what_the_actuators_move(cart, world):
    """The robot's signals are those of MuJoCo's body and joints, after driving for two seconds."""
    robot = cart(WORLDS[world])
    check_task(Laps(robot))
    batch = MujocoBatch(Laps(robot), 3, seed=0)
    model = robot.load_model()
    data = mujoco.MjData(model)
    crates = [i for i in range(model.nbody) if model.body(i).name in ("crate", "other")]
    for _ in range(40):
        batch.step(np.tile([0.4, 0.3], (3, 1)))
    signals = batch.signals()
    for copy in range(3):
        data.qpos[:], data.qvel[:] = batch.qpos[copy], batch.qvel[copy]
        mujoco.mj_forward(model, data)
        body = data.body("base")
        np.testing.assert_allclose(signals["position"][copy], body.xpos[:2], atol=1e-9)
        np.testing.assert_allclose(signals["orientation"][copy], body.xquat, atol=1e-9)
        rotation = body.xmat.reshape(3, 3)
        np.testing.assert_allclose(signals["projected_gravity"][copy], -rotation[2], atol=1e-9)
        seen = np.zeros(6)
        kind = mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(model, data, kind, model.body("base").id, seen, 1)
        np.testing.assert_allclose(signals["angular_velocity"][copy], seen[:3], atol=1e-9)
        mujoco.mj_objectVelocity(model, data, kind, model.body("base").id, seen, 0)
        ahead = rotation[:2, 0] / np.linalg.norm(rotation[:2, 0])
        assert signals["forward_speed"][copy, 0] == pytest.approx(ahead @ seen[3:5], abs=1e-9)
        left = np.array([-ahead[1], ahead[0]])
        assert signals["lateral_speed"][copy, 0] == pytest.approx(left @ seen[3:5], abs=1e-9)
        wheels = [data.joint(f"{side}_wheel").qvel[0] for side in ("left", "right")]
        np.testing.assert_allclose(signals["joint_velocity"][copy], wheels, atol=1e-12)
        for crate in crates:  # nobody touched it
            np.testing.assert_allclose(data.xpos[crate], model.body_pos[crate], atol=1e-2)
    np.testing.assert_allclose(signals["forward_speed"], 0.4, atol=0.1)
    assert robot.body.joints == ("left_wheel", "right_wheel")


def test_a_base_by_name(cart):
    """Two carts in one world: neither has more actuators, so the name says which is meant."""
    other = mjcf(actuators="")
    other = other[other.index("<body") : other.index("</worldbody>")]
    for name in ("base", "left", "right", "left_wheel", "right_wheel"):
        other = other.replace(f'"{name}"', f'"other_{name}"')
    both = ACTUATORS + ACTUATORS.replace('joint="', 'joint="other_')
    robot = cart(mjcf(after=other.replace("0 0 0.05", "0 2 0.05"), actuators=both))
    with pytest.raises(ConfigError, match="'base' has as many actuators as 'other_base'; name the"):
        _ = robot.body
    robot.base = "other_base"
    qpos, qvel = robot.start(np.random.default_rng(0), 4, 0.0)
    np.testing.assert_allclose(robot.signals(qpos, qvel)["position"], [[0.0, 2.0]] * 4)
    robot = cart(robot.model_file.read_text())
    robot.base = "bse"
    sentence = "base should be one of its bodies with a free joint, base, other_base; received"
    with pytest.raises(ConfigError, match=sentence):
        _ = robot.body


@pytest.mark.parametrize("kind", ["site", "tendon", "body"])
def test_actuators_of_other_kinds_tell_the_base_too(cart, kind):
    more, actuators = "", '<adhesion body="left" ctrlrange="0 1" gain="1"/>'
    if kind == "site":
        actuators = '<velocity site="middle" gear="1 0 0 0 0 0" kv="1"/>'
    elif kind == "tendon":
        more = '<tendon><fixed name="t"><joint joint="left_wheel" coef="1"/></fixed></tendon>'
        actuators = '<motor tendon="t"/>'
    text = mjcf(SKID + '<site name="middle"/>', before=CRATE, actuators=actuators, more=more)
    assert cart(text).body.name == "base"


URDF = """<robot name="cart">
<link name="base_link"><inertial><mass value="3"/>
<inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
<link name="wheel"><inertial><mass value="1"/>
<inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
<joint name="axle" type="continuous"><parent link="base_link"/><child link="wheel"/>
<axis xyz="0 1 0"/></joint>FLOATING</robot>"""
FLOATING = (
    '<link name="world"/><joint name="free" type="floating">'
    '<parent link="world"/><child link="base_link"/></joint>'
)


class FromURDF(Cart):
    def spec(self):
        spec = super().spec()
        spec.add_actuator(name="motor", target="axle", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        return spec


def test_a_urdf_s_base_is_free_once_it_is_told_so(tmp_path):
    file = tmp_path / "cart.urdf"
    with pytest.raises(ConfigError, match='unless a joint of type "floating" connects it to a lin'):
        _ = FromURDF(file, URDF.replace("FLOATING", "")).body
    robot = FromURDF(file, URDF.replace("FLOATING", FLOATING))
    assert (robot.body.name, robot.body.joints) == ("base_link", ("axle",))


MESH = '<asset><mesh name="hull" file="hull.stl"/></asset>'
POINT = '<body><joint/><inertial pos="0 0 0" mass="0" diaginertia="0 0 0"/></body>'
FLAT = mjcf(SKID + POINT)

BROKEN = {
    "no file": (None, "there is no such file"),
    "empty": ("", "MuJoCo cannot load it"),
    "no XML": ("wheels: 4\n", "MuJoCo cannot load it"),
    "cut off": (mjcf()[:-9], "MuJoCo cannot load it"),
    "element": (mjcf().replace("geom", "goem"), "cannot load it .*unrecognized element.*goem"),
    "mesh": (mjcf(more=MESH), "cannot load it .*hull.stl"),
    "include": (mjcf(more='<include file="parts.xml"/>'), "cannot load it .*parts.xml"),
    "joint": (mjcf(actuators='<motor joint="axle"/>'), "cannot load it .*'axle'"),
    "nested": (mjcf(before="<body>", after="</body>"), "cannot load it .free joint can only be"),
    "inertia": (FLAT, "cannot load it .mass and inertia of moving bodies must be larger"),
    "keyframe": (
        mjcf(more=f'<keyframe><key qpos="{"0 " * 10}"/></keyframe>'),
        "cannot load it .*qpos",
    ),
    "no actuator": (mjcf(actuators=""), "should have an actuator at least"),
    "fixed": (mjcf(free=""), "'base', which carries the actuators, should have a free joint"),
    "only crates": (mjcf(free="", after=CRATE), "'base', which carries the actuators, should have"),
}


@pytest.mark.parametrize(("text", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_model_is_one_sentence(cart, text, sentence):
    with pytest.raises(ConfigError, match=rf"^\S*cart\.xml: .*{sentence}") as caught:
        check_task(Laps(cart(text)))
    assert "\n" not in str(caught.value)
