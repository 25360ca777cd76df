"""The page of a twin: its shapes and poses, what it does to the twin, and the page in a browser."""

from __future__ import annotations

import base64
import itertools
import os
import re
import signal
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

import mujoco
import numpy as np
import pytest

from holdfast.cli import main
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from holdfast.sim.view import shapes
from holdfast.sim.view.poses import Poses
from holdfast.sim.view.viewer import Viewer
from holdfast.sim.view.watched_twin import WatchedTwin
from tests.helpers.robots.parameters import parameters
from tests.helpers.robots.runs import gone, until
from tests.helpers.robots.twins import connected, running_twin
from tests.helpers.web import browser as browsers

TASK = resolve("DriveCircle-v0").make()
HIDDEN = "GPU stall due to ReadPixels"  # what a browser without a GPU says of its own work

KINDS = """
<mujoco>
  <asset>
    <mesh name="block" vertex="0 0 0  1 0 0  0 2 0  0 0 3  1 2 0  1 0 3  0 2 3  1 2 3"/>
    <hfield name="hill" nrow="3" ncol="4" size="2 1 0.5 0.1" elevation="0 0 0 0 0 1 1 0 0 0 0 0"/>
    <material name="red" rgba="1 0 0 1"/>
  </asset>
  <worldbody>
    <geom name="plane" type="plane" size="0 3 1"/>
    <geom name="hill" type="hfield" hfield="hill"/>
    <body>
      <geom name="sphere" type="sphere" size="0.5" material="red"/>
      <geom name="ellipsoid" type="ellipsoid" size="0.1 0.2 0.3" rgba="0 1 0 0.5"/>
      <geom name="capsule" type="capsule" size="0.1 0.4"/>
      <geom name="cylinder" type="cylinder" size="0.2 0.3" pos="1 2 3" euler="90 0 0"/>
      <geom name="box" type="box" size="0.1 0.2 0.3"/>
      <geom name="mesh" type="mesh" mesh="block"/>
      <geom name="collision" type="box" size="1 1 1" group="3"/>
      <geom name="clear" type="box" size="1 1 1" rgba="1 1 1 0"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(KINDS)


def surface(model, name):
    geom = model.geom(name).id
    return shapes.triangles(model, geom, model.geom_size[geom])


def volume(corners):
    """The volume that a closed surface encloses, whichever way its triangles turn."""
    return abs(np.linalg.det(corners).sum()) / 6.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sphere", 4 / 3 * np.pi * 0.5**3),
        ("ellipsoid", 4 / 3 * np.pi * 0.1 * 0.2 * 0.3),
        ("capsule", np.pi * 0.1**2 * 0.8 + 4 / 3 * np.pi * 0.1**3),
        ("cylinder", np.pi * 0.2**2 * 0.6),
        ("box", 0.2 * 0.4 * 0.6),
        ("mesh", 6.0),
    ],
)
def test_a_surface_encloses_what_its_geom_does(model, name, expected):
    assert volume(surface(model, name)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ellipsoid", (-0.1, -0.2, -0.3), (0.1, 0.2, 0.3)),
        ("capsule", (-0.1, -0.1, -0.5), (0.1, 0.1, 0.5)),
        ("cylinder", (0.8, 1.7, 2.8), (1.2, 2.3, 3.2)),
        ("box", (-0.1, -0.2, -0.3), (0.1, 0.2, 0.3)),
        ("mesh", (0.0, 0.0, 0.0), (1.0, 2.0, 3.0)),
        ("plane", (-shapes.ENDLESS_M, -3.0, 0.0), (shapes.ENDLESS_M, 3.0, 0.0)),
        ("hill", (-2.0, -1.0, 0.0), (2.0, 1.0, 0.5)),
    ],
)
def test_a_surface_lies_where_its_geom_does(model, name, low, high):
    corners = surface(model, name).reshape(-1, 3)
    np.testing.assert_allclose(corners.min(axis=0), low, atol=2e-3)
    np.testing.assert_allclose(corners.max(axis=0), high, atol=2e-3)


def test_what_mujoco_s_viewer_hides_is_not_seen(model):
    seen = {model.geom(geom).name for geom in shapes.seen(model)}
    assert {model.geom(geom).name for geom in range(model.ngeom)} - seen == {"collision", "clear"}


def test_colours_are_the_geom_s_or_its_material_s(model):
    assert shapes.colour(model, model.geom("sphere").id) == [1.0, 0.0, 0.0, 1.0]
    assert shapes.colour(model, model.geom("ellipsoid").id) == [0.0, 1.0, 0.0, 0.5]
    assert shapes.colour(model, model.geom("box").id) == [0.5, 0.5, 0.5, 1.0]


# Poses.


@pytest.fixture
def shared(model):
    """The writer's and the reader's side of one file, and the file."""
    with tempfile.TemporaryFile() as file:
        yield Poses(file.fileno(), model), Poses(file.fileno(), model), file


def test_a_reader_has_the_newest_pose_alone(model, shared):
    writer, reader, _ = shared
    data = mujoco.MjData(model)
    assert reader.read() is None
    for time_s in (1.0, 2.0):
        data.xpos[:] = time_s
        writer.write(time_s, 3, model, data)
    pose = reader.read()
    assert (pose.time_s, pose.starts) == (2.0, 3)
    assert (pose.position == 2.0).all()
    np.testing.assert_array_equal(pose.orientation, data.xquat)
    np.testing.assert_array_equal(pose.size, model.geom_size)


def test_a_pose_that_is_being_written_is_not_read(model, shared):
    writer, reader, file = shared
    writer.write(1.0, 1, model, mujoco.MjData(model))
    file.seek(0)
    file.write(np.float64(2.0).tobytes())  # the time of the next, and the rest of the last
    file.flush()
    assert reader.read() is None


def test_a_drawn_size_is_in_the_picture(model, shared):
    writer, reader, _ = shared
    data, sizes = mujoco.MjData(model), model.geom_size.copy()
    watched = WatchedTwin(reader, model, {}, 1)
    messages = watched.messages()
    assert next(messages)["about"]["base"] == 1
    ball = shapes.seen(model).index(model.geom("sphere").id)

    def told(starts):
        writer.write(1.0, starts, model, data)
        assert watched.read()
        return next(messages)

    def width(message):
        corners = np.frombuffer(base64.b64decode(message["parts"][ball]["corners"]), "<f4")
        return np.ptp(corners.reshape(-1, 3), axis=0)

    try:
        np.testing.assert_allclose(width(told(1)), 1.0, atol=0.01)
        assert "parts" not in told(2)
        model.geom_size[model.geom("sphere").id, 0] = 0.7
        np.testing.assert_allclose(width(told(3)), 1.4, atol=0.01)
    finally:
        model.geom_size[:] = sizes


# The twin with a viewer.


def board_of(gap=None):
    return TwinBoard(TASK, gap or Parameters(), 1, True, Truth(TASK, 1, None))


def test_physics_are_the_same_with_and_without_a_viewer():
    boards = board_of(), board_of()
    boards[1].viewer = viewer = Viewer(boards[1].model, boards[1].base, {}, port=0)
    try:
        for board in boards:
            for _ in range(2):
                for _ in range(20):
                    board.actuate((0.5, 0.4))
                    board.advance()
                board.replace()
        np.testing.assert_array_equal(boards[0].data.qpos, boards[1].data.qpos)
        assert boards[0].now_us() == boards[1].now_us()
    finally:
        viewer.close()


def test_the_viewer_is_shown_the_twin_s_own_robot(model):
    """The page shows the true pose, and wheels of the size that the gap gives them."""
    board = board_of(parameters(size={"left_tyre": 1.25, "right_tyre": 1.25}))
    with tempfile.TemporaryFile() as file:
        reader = Poses(file.fileno(), board.model)

        class Written:
            def show(self, time_s, starts, model, data, at_once):
                Poses(file.fileno(), model).write(time_s, starts, model, data)

        board.viewer = Written()
        board.actuate((0.5, 0.0))
        board.advance()
        board.end_episode()
        pose = reader.read()
    np.testing.assert_allclose(pose.position[board.base], board.data.qpos[:3], atol=0.02)
    assert pose.size[board.model.geom("left_tyre").id, 0] == pytest.approx(1.25 * 0.08)
    assert pose.time_s == board.now_us() / 1e6


@contextmanager
def viewed(*options):
    """A twin with a page; yields the twin, the page's address and the viewer's process id."""
    with running_twin("--view", "--view-port", 0, *options) as twin:
        url = re.fullmatch(
            r"its page: (http://127\.0\.0\.1:\d+/)\n", twin.process.stdout.readline()
        )
        pid = twin.process.pid
        (viewer,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield twin, url[1], int(viewer)


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("what", [signal.SIGSTOP, signal.SIGKILL])
def test_a_twin_outlives_a_viewer_that_hangs_or_is_killed(what, lockstep):
    with viewed("--realtime-factor", 0 if lockstep else 1) as (twin, _, viewer):
        os.kill(viewer, what)
        with connected(twin.address) as robot:
            robot.reset()
            robot.arm()
            before_s = robot.read().stamp_s
            for _ in range(20):
                robot.send(np.array([0.3, 0.0]), 1.0)
                robot.wait(robot.now_s() + 0.05)
            assert robot.read().stamp_s >= before_s + 0.9
            assert robot.read().signals["forward_speed"][0] > 0.2
            assert not robot.faults()
        twin.process.terminate()
        assert twin.process.wait(10) == 0
        until(lambda: gone(viewer))


def test_a_viewer_ends_with_a_twin_that_is_killed():
    with viewed() as (twin, _, viewer):
        twin.process.kill()
        twin.process.wait()
        until(lambda: gone(viewer))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--view-port", "0"], "view-host and view-port are of the page, which needs --view"),
        (["--view", "--view-port", "70000"], "port should be between 0 and 65535, received 70000"),
        (["--view", "--view-host", "no.such.host.invalid"], "cannot listen at no.such.host"),
    ],
)
def test_a_page_that_cannot_be_served_is_refused_before_the_twin_runs(options, sentence, capsys):
    assert main(["twin", *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert "Traceback" not in err


def test_a_port_in_use_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["twin", "--view", "--view-port", str(port)]) == 1
    assert f"cannot listen at 127.0.0.1, port {port}" in capsys.readouterr().err


# The page.

needs_browser = pytest.mark.skipif(browsers.programs() is None, reason=browsers.NOT_INSTALLED)


@pytest.fixture(scope="module")
def browser():
    with browsers.browser() as one:
        yield one


@pytest.fixture(scope="module")
def page():
    """A twin that the tests of the page drive one after another, and the page's address."""
    with viewed() as (twin, url, _), connected(twin.address) as robot:
        yield robot, url


def complaints(browser):
    return [each for each in browser.complaints() if HIDDEN not in each]


def picture(browser):
    """The canvas as it is drawn at once: later the browser may have taken its content."""
    drawn = browser.run("draw(); return document.querySelector('#picture').toDataURL()")
    return base64.b64decode(drawn.partition(",")[2])


@needs_browser
@pytest.mark.parametrize(("width", "dark"), itertools.product([1280, 400], [False, True]))
def test_the_page_shows_the_robot_as_it_moves(browser, page, width, dark):
    robot, url = page
    browser.open(url, width, 900, dark)
    browser.until(lambda: "simulated time" in browser.text("#numbers"))
    assert browser.text("#life") == "Live"
    assert "DriveCircle-v0, in real time" in browser.text("#about")

    def apart_m():
        """How far the page's robot is from the twin's own word."""
        shown_m = browser.run("return twin.pose.position[twin.about.base][0]")
        return abs(shown_m - robot.read().signals["position"][0])

    # The robot may roll on from the test before, and the page is asked before the twin.
    browser.until(lambda: apart_m() < 0.01)
    still = picture(browser)
    robot.reset()
    robot.arm()
    for _ in range(20):
        robot.send(np.array([0.6, 0.0]), 1.0)
        robot.wait(robot.now_s() + 0.05)
    browser.until(lambda: browser.run("return twin.way.length") > 10)
    assert picture(browser) != still
    assert len(set(picture(browser))) > 100
    assert browser.overflow() == []
    assert complaints(browser) == []


@needs_browser
def test_the_picture_turns_comes_nearer_and_stays_behind(browser):
    with viewed("--realtime-factor", 0) as (_, url, _):
        browser.open(url)
        browser.until(lambda: "simulated time" in browser.text("#numbers"))
        assert "in lockstep" in browser.text("#about")
        seen = [picture(browser)]
        for event in (
            "new WheelEvent('wheel', {deltaY: -300})",
            "new PointerEvent('pointermove', {pointerId: 1, clientX: 90, clientY: 30})",
        ):
            browser.run(
                "fingers.set(1, [10, 10]);"
                f"document.querySelector('#picture').dispatchEvent({event})"
            )
            seen.append(picture(browser))
        assert len(set(seen)) == 3
        browser.click("#follow")
        assert browser.run("return eye.follow") is False
        assert complaints(browser) == []


@needs_browser
def test_a_page_whose_twin_ended_says_so(browser):
    with viewed() as (_, url, _):
        browser.open(url)
        browser.until(lambda: browser.text("#life") == "Live")
    browser.until(lambda: "No connection to the viewer" in browser.text("#life"))


@needs_browser
def test_a_twin_that_hangs_does_not_look_live(browser):
    with viewed() as (twin, url, _):
        browser.open(url)
        browser.until(lambda: browser.text("#life") == "Live")
        twin.process.send_signal(signal.SIGSTOP)
        browser.until(lambda: "No new pose for" in browser.text("#life"))
        twin.process.send_signal(signal.SIGCONT)
        browser.until(lambda: browser.text("#life") == "Live")
