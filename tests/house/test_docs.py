"""The pages say what is there: links lead somewhere, commands and folders exist."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import reasons_page

from holdfast.cli import COMMANDS
from holdfast.safety_monitor.limits import ALWAYS, BLOCKS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^(?: {4}.*|```[\s\S]*?```)$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(page.read_text("utf-8"))):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_code_type_exist(page):
    """`folder/file.py` in the running text is a promise that it is there."""
    folders = "holdfast|safety_monitor|sim|policy|robot|launch|config|examples|tests|docs"
    named = rf"`((?:{folders})/[\w./-]*\.(?:py|md|yaml|xml|html))`"
    for file in re.findall(named, prose(page.read_text("utf-8"))):
        assert (ROOT / file).is_file(), file


def test_tests_that_the_promises_name_exist():
    page = (ROOT / "docs" / "reference" / "SAFETY.md").read_text("utf-8")
    for name in re.findall(r"`((?:[a-z_]+/)*test_[a-z_]+\.py)`", page):
        folder = ROOT / "tests" / ("" if "/" in name else "safety_monitor")
        assert (folder / name.removeprefix("tests/")).is_file(), name


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").as_posix()
        assert path in ("README.md", "index.md") or f"]({path})" in index, path


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html"]
    made = subprocess.run(
        [*build, ROOT / "docs", tmp_path], check=False, capture_output=True, text=True
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert "Your robot in an hour" in (tmp_path / "index.html").read_text("utf-8")


def test_the_page_of_commands_has_every_one_and_no_other():
    table = (ROOT / "docs" / "reference" / "COMMANDS.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `holdfast (\w+)", table, flags=re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists(page):
    text = page.read_text("utf-8")
    shown = re.findall(r"(?:^ {4}|`)(?:ros2 run holdfast )?holdfast ([a-z]+)\b", text, flags=re.M)
    assert set(shown) <= set(COMMANDS)


def test_the_page_of_reasons_is_what_their_table_says():
    assert reasons_page.PAGE.read_text("utf-8") == reasons_page.page(), (
        "run python tests/house/reasons_page.py"
    )


def test_the_page_of_a_robot_s_file_has_every_block_and_no_other():
    page = (ROOT / "docs" / "start" / "ROBOT.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (yes)?", page, flags=re.MULTILINE))
    assert tuple(rows) == tuple(BLOCKS)
    assert {name for name, must in rows.items() if must} == ALWAYS.keys()


def test_make_targets_that_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make (\w+)`|^ {4}make (\w+)", pages, flags=re.MULTILINE))
    names = {name for pair in targets for name in pair if name}
    assert {"demo", "test", "check"} <= names
    for name in names:
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE), name


@pytest.mark.parametrize("page", ["FIRST_RUN.md", "YOUR_ROBOT.md"])
def test_a_page_of_commands_says_how_the_shell_finds_them(page):
    text = (ROOT / "docs" / "start" / page).read_text("utf-8")
    before = text.partition("```sh\nholdfast")[0]
    assert "`. .venv/bin/activate`" in before


def test_the_front_page_is_short():
    assert len(README.split()) <= 700


def test_the_listing_of_a_task_is_the_example():
    """docs/guides/OWN_TASKS.md shows the whole class as examples/car.py has it."""
    code = (ROOT / "examples" / "car.py").read_text(encoding="utf-8")
    listing = textwrap.indent(code[code.index("class CarLaps") :], "    ")
    assert listing in (ROOT / "docs" / "guides" / "OWN_TASKS.md").read_text(encoding="utf-8")
