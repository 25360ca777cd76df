"""The page in a real browser: what it says, at two widths, in light and dark."""

from __future__ import annotations

import dataclasses
import shutil
import time

import pytest

from holdfast.cli import main
from holdfast.log.reader import read
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots import runs
from tests.helpers.web import browser as browsers
from tests.helpers.web import logs
from tests.helpers.web.viewer import watched

pytestmark = pytest.mark.skipif(browsers.programs() is None, reason=browsers.NOT_INSTALLED)

SIZES = [(1280, False), (1280, True), (400, False), (400, True)]


@pytest.fixture(scope="module")
def browser():
    with browsers.browser() as one:
        yield one


def opened(browser, url, width=1280, dark=False):
    """Open the page and wait until it shows a run."""
    browser.open(url, width, 900, dark)
    browser.until(lambda: browser.text("#moment") != "")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "monday"
    logs.record(folder, logs.with_scan(run="monday")).close()
    return folder


@pytest.fixture(scope="module")
def page(run):
    with watched(run) as url:
        yield url


@pytest.mark.parametrize(("width", "dark"), SIZES)
def test_an_old_log_says_how_it_ended(browser, page, width, dark):
    opened(browser, page, width, dark)
    assert "STOPPED" in browser.text("#monitor")
    assert logs.SENTENCE in browser.text("#monitor").replace("Position", "position")
    assert "reset releases the stop" in browser.text("#release")
    assert browser.text("#life") == "The run is over"
    assert browser.run("return document.title").endswith("/monday · Holdfast")
    assert browser.text("#run").endswith("/monday")
    assert "limit d 10" in browser.text("#bars")
    assert "episode cap 30" in browser.text("#bars")
    assert browser.overflow() == []
    assert browser.complaints() == []


def test_the_page_shows_the_moment_that_is_sought(browser, page, run):
    opened(browser, page)
    log = read(run)
    browser.click("#episodes button:first-child")
    browser.until(lambda: "Episode 0" in browser.text("#window"))
    browser.run("const s = document.querySelector('#seek'); s.value = 100; s.oninput();")
    assert "return 60" in browser.text("#episode")
    spent = log.episodes[0].costs[:101, 0].sum()
    assert f"{spent:g} spent" in browser.text("#bars")
    assert "episode 0, step 100" in browser.text("#moment")
    assert "ACTIVE" in browser.text("#monitor")
    browser.click("#stops button")
    browser.until(lambda: "ten seconds before the stop" in browser.text("#window"))
    assert "STOPPED" in browser.text("#monitor")
    browser.click("#play")  # from the start of the ten seconds, as fast as it was
    browser.until(lambda: "episode 1, step 2" in browser.text("#moment"))
    assert browser.complaints() == []


def test_the_canvases_are_drawn(browser, page):
    opened(browser, page)
    drawn = browser.run(
        """
        return [...document.querySelectorAll("canvas")].map((canvas) => {
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(new Uint32Array(data.buffer)).size;
        });
        """
    )
    assert len(drawn) == 5  # states, map, two actions, one cost
    assert min(drawn) > 2


def colours(browser, selector):
    """Return how many pixels of a canvas have each opaque colour, as "r,g,b"."""
    return browser.run(
        f"""
        const canvas = document.querySelector({selector!r}), counts = {{}};
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        for (let i = 0; i < data.length; i += 4) {{
          const key = [data[i], data[i + 1], data[i + 2]].join();
          if (data[i + 3] === 255) counts[key] = (counts[key] || 0) + 1;
        }}
        return counts;
        """
    )


PROPOSED = "217,119,6"  # --proposed, as a light page has it


@pytest.mark.parametrize("width", [1280, 400])
def test_a_large_prediction_stays_in_view(browser, tmp_path, width):
    """It is far above the limit and the episode cap, all the while."""
    log = logs.record(tmp_path / "run", cost_to_go=200.0)
    log.close()
    with watched(tmp_path / "run") as url:
        opened(browser, url, width)
        assert colours(browser, "#costs canvas").get(PROPOSED, 0) > 100


SHADED = """
    const canvas = document.querySelector("#map");
    const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let left = Infinity, right = -Infinity;
    for (let i = 0; i < all.length; i += 4) {
      const [r, g, b, alpha] = all.slice(i, i + 4);
      if (alpha < 55 || alpha > 75 || g < r + 50 || g < b + 40) continue; // not a quarter of green
      const x = (i / 4) % canvas.width;
      left = Math.min(left, x); right = Math.max(right, x);
    }
    return right < left ? null : [left / canvas.width, right / canvas.width];
"""


@pytest.mark.parametrize("width", [1280, 400])
def test_the_corridor_is_on_the_map(browser, page, width):
    """It is 1.8 m wide, about the middle of a fence of 6 m."""
    opened(browser, page, width)
    browser.until(lambda: browser.run(SHADED) is not None)
    left, right = browser.run(SHADED)
    assert (left + right) / 2 == pytest.approx(0.5, abs=0.02)
    assert 0.15 < right - left < 0.25
    assert "places without a cost" in browser.text("#map-card")
    browser.click("#episodes button:first-child")  # what is known is not asked for again
    assert browser.run(SHADED) == [left, right]
    assert browser.overflow() == []


def test_a_cost_of_more_than_the_place_has_no_place(browser, tmp_path):
    contract = logs.drive_info().contract
    costs = (dataclasses.replace(contract.costs[0], expression="abs(forward_speed) > 0.9"),)
    about = logs.drive_info(contract=dataclasses.replace(contract, costs=costs))
    logs.record(tmp_path / "run", about).close()
    with watched(tmp_path / "run") as url:
        opened(browser, url)
        names = "performance.getEntriesByType('resource').map((each) => each.name)"
        asked = f"return {names}.filter((name) => name.includes('/places')).length"
        browser.until(lambda: browser.run(asked) == 1)
        time.sleep(0.3)
        browser.click("#episodes button:first-child")
        assert browser.run(asked) == 1
        assert browser.run(SHADED) is None
        assert "places without a cost" not in browser.text("#map-card")


@pytest.mark.parametrize("width", [1280, 400])
def test_a_hostile_log_runs_nothing_and_breaks_nothing(browser, tmp_path, width):
    logs.hostile(tmp_path / "run").close()
    with watched(tmp_path / "run") as url:
        opened(browser, url, width)
        assert browser.run("return window.owned") is None
        assert logs.EVIL in browser.text("#run")
        assert logs.EVIL in browser.text("#monitor")
        assert browser.run("return document.querySelectorAll('img, body script').length") == 1
        browser.click("#episodes button:first-child")
        browser.click("#stops button")
        for value in range(0, 60, 7):
            browser.run(f"const s = document.querySelector('#seek'); s.value={value}; s.oninput();")
        assert browser.overflow() == []
        assert browser.complaints() == []


def test_a_stop_of_a_real_run_is_on_the_page_that_follows_it(browser, tmp_path):
    """A twin, a deployment and a viewer, each a process: the robot drives out of its fence."""
    policy = write_bundle(tmp_path / "policy.onnx", action=[0.9, 0.0], cost_to_go=3.0)
    out = tmp_path / "run"
    options = ("--episodes", "2", "--evidence", str(tmp_path / "evidence.json"))
    with (
        runs.twin(tmp_path, lockstep=True) as twin,
        runs.deployment(out, twin.address, policy, *options) as deployment,
        watched(out, "--live") as url,
    ):
        opened(browser, url)
        deployment.end()
        (*_, last) = deployment.log().episodes
        browser.until(lambda: browser.text("#life") == "The run is over")
        assert last.result.text in browser.text("#stops").replace("From", "from")
        assert f"limit d {deployment.log().info.contract.costs[0].limit:g}" in browser.text(
            "#evidence"
        )
        assert browser.overflow() == []
        assert browser.complaints() == []


def test_a_run_that_says_nothing_more_does_not_look_live(browser, tmp_path):
    """What the page shows would be fresh and false otherwise."""
    log = logs.record(tmp_path / "run", logs.drive_info(clock_offset_s=time.time() - 1106.0))
    with watched(tmp_path / "run") as url:
        opened(browser, url)
        browser.until(lambda: "No new period for" in browser.text("#life"))
        log.close()
        browser.until(lambda: browser.text("#life") == "The run is over")


def test_a_page_whose_viewer_died_says_so(browser, run):
    with watched(run) as url:
        opened(browser, url)
    browser.until(lambda: "No connection to the viewer" in browser.text("#life"))


@pytest.mark.parametrize(("width", "dark"), SIZES)
def test_the_results_page(browser, run, tmp_path, width, dark):
    other = tmp_path / "tuesday"
    logs.record(other, logs.drive_info(run=f"tuesday {logs.EVIL}"), steps=90).close()
    page = tmp_path / "show.html"
    same = tmp_path / "monday"
    shutil.copytree(run, same)
    assert main(["show", str(same), str(other), "--out", str(page)]) == 0
    browser.open(page.as_uri(), width, 900, dark)
    text = browser.text()
    assert logs.SENTENCE in text
    assert "stopped by outside_geofence" in text
    assert logs.EVIL in text
    assert browser.run("return window.owned") is None
    assert browser.run("return document.querySelectorAll('svg').length") == 4
    assert browser.overflow() == []
    assert browser.complaints() == []
