"""The package as users get it: wheel, source distribution, pip install, editable install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package
from packaging.metadata import Metadata

from holdfast import DISTRIBUTION, __version__

ROOT = Path(__file__).resolve().parents[2]

OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
WHEEL = (sys.executable, "-m", "pip", "wheel", *OFFLINE, "-w")

# rosdep's name for each package of the base install; "" where rosdep/python.yaml has none.
ROSDEP = {
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "pyserial": "python3-serial",
    "cobs": "python-cobs-pip",
    "mcap": "",
    "lz4": "",
    "zstandard": "",
    "pyyaml": "python3-yaml",
    "tyro": "",
    "rich": "python3-rich",
}


def package_files() -> set[str]:
    """Return what belongs under `holdfast/` in an install."""
    patterns = {
        "holdfast": ("*.py", "py.typed", "*/*.py"),
        "safety_monitor": ("*.py", "*/*.py"),
        "sim": ("*.py", "*/*.py", "robots/assets/*.xml", "view/*.html", "view/*.js"),
        "policy": ("*.py", "*/*.py", "demo/*.html"),
        "robot": ("*.py", "*/*.py", "view/*.html", "view/*.css", "view/*.js"),
    }
    return {
        str(Path("" if folder == "holdfast" else folder) / file.relative_to(ROOT / folder))
        for folder, globs in patterns.items()
        for pattern in globs
        for file in (ROOT / folder).glob(pattern)
    }


def share_files() -> set[str]:
    """Return what belongs under `share/holdfast/`."""
    files = [*ROOT.glob("launch/*.launch.py"), *ROOT.glob("config/*.*")]
    assert any(file.parent.name == "launch" for file in files)
    return {"package.xml", *(str(file.relative_to(ROOT)) for file in files)}


def contents(wheel: Path) -> set[str]:
    """Return a wheel's files, those of the .dist-info folder left out."""
    names = zipfile.ZipFile(wheel).namelist()
    return {name for name in names if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, copied):
    """Return a wheel that was built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*WHEEL, folder, copied(folder / "source")], check=True, capture_output=True)
    (built,) = folder.glob("holdfast_robot-*.whl")
    return built


def test_the_wheel_holds_the_house(wheel):
    data = f"holdfast_robot-{__version__}.data/data/share"
    assert contents(wheel) == {
        *(f"holdfast/{file}" for file in package_files()),
        *(f"{data}/holdfast/{file}" for file in share_files()),
        f"{data}/ament_index/resource_index/packages/holdfast",
    }


def test_the_metadata_is_what_an_index_takes(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = Metadata.from_email(archive.read(name), validate=True)
        licence = name.replace("METADATA", "LICENSE")
        in_folder = name.replace("METADATA", "licenses/LICENSE")  # newer setuptools
        text = archive.read(licence if licence in archive.namelist() else in_folder)
    assert text == (ROOT / "LICENSE").read_bytes()
    assert found.name == DISTRIBUTION
    assert found.description_content_type == "text/markdown"
    assert found.description.strip() == (ROOT / "README.md").read_text().strip()
    assert str(found.requires_python) == ">=3.10"


def test_a_wheel_made_from_the_source_distribution_is_the_same(source, wheel, tmp_path, run):
    program = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", program, cwd=source)
    (archive,) = tmp_path.glob("holdfast_robot-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / f"holdfast_robot-{__version__}"
    assert (unpacked / "LICENSE").is_file()
    assert (unpacked / "README.md").is_file()
    run(*WHEEL, tmp_path, unpacked)
    (again,) = tmp_path.glob("holdfast_robot-*.whl")
    assert contents(again) == contents(wheel)


# Says where the installed package and its share folder are, and what they hold.
LOOK = """
import json, pathlib, sys
import holdfast, holdfast.safety_monitor.costs, holdfast.share
def files(folder, patterns):
    return [str(f.relative_to(folder)) for p in patterns for f in folder.glob(p)]
package, share = pathlib.Path(holdfast.__file__).parent, holdfast.share.folder()
print(json.dumps({
    "package": str(package), "share": str(share), "prefix": sys.prefix,
    "package files": files(
        package,
        [
            "*.py",
            "py.typed",
            "*/*.py",
            "*/*/*.py",
            "sim/robots/assets/*.xml",
            "policy/demo/*.html",
            *(f"*/view/*.{kind}" for kind in ("html", "css", "js")),
        ],
    ),
    "share files": files(share, ["package.xml", "launch/*.launch.py", "config/*.*"]),
}))
"""


def check_works(python: Path, run) -> dict[str, str]:
    """Check an environment's `holdfast`, and return where it found its folders."""
    program = python.parent / "holdfast"
    assert run(program, "--version") == f"holdfast {__version__}\n"
    assert "The robot side works." in run(program, "doctor")
    seen = json.loads(run(python, "-c", LOOK))
    assert set(seen["package files"]) == package_files()
    assert set(seen["share files"]) == share_files()
    prefix = Path(seen["prefix"])
    assert prefix == python.parents[1]
    for file in share_files():  # ROS looks here, whatever holdfast.share says
        assert (prefix / "share" / "holdfast" / file).is_file()
    assert (prefix / "share/ament_index/resource_index/packages/holdfast").is_file()
    return {"package": seen["package"], "share": seen["share"]}


def test_pip_install(source, python, run):
    run(python, "-m", "pip", "install", *OFFLINE, source)
    found = check_works(python, run)
    assert found["package"].startswith(str(python.parents[1]))
    assert found["share"] == str(python.parents[1] / "share" / "holdfast")


def test_pip_install_editable(source, python, run):
    run(python, "-m", "pip", "install", *OFFLINE, "--editable", source)
    assert check_works(python, run) == {"package": str(source / "holdfast"), "share": str(source)}
    (source / "safety_monitor" / "added.py").write_text("here = 1\n")
    run(python, "-c", "import holdfast.safety_monitor.added")


def test_there_is_one_version():
    package = parse_package(str(ROOT / "package.xml"))
    assert package.version == __version__
    assert re.search(rf'version="{re.escape(__version__)}"', (ROOT / "setup.py").read_text())


def test_package_xml_is_valid_for_ament_python():
    warnings: list[str] = []
    package = parse_package(str(ROOT / "package.xml"), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3
    assert package.get_build_type() == "ament_python"
    (maintainer,) = package.maintainers
    assert maintainer.email.endswith(".invalid"), "a reserved domain: no stranger gets our mail"


def base_install() -> list[str]:
    lines = metadata.requires(DISTRIBUTION) or []
    names = [re.match(r"[\w-]+", line) for line in lines if "extra ==" not in line]
    return [name.group() for name in names if name]


@pytest.mark.parametrize("name", base_install())
def test_what_runs_on_a_robot_is_found_by_rosdep_or_named_in_the_readme(name):
    package = parse_package(str(ROOT / "package.xml"))
    if ROSDEP[name]:
        assert ROSDEP[name] in [depend.name for depend in package.exec_depends]
    else:
        install = (ROOT / "docs" / "start" / "ROBOT.md").read_text()
        assert f"`{name}`" in install.partition("\n## ")[0]


def test_package_xml_asks_for_nothing_else():
    package = parse_package(str(ROOT / "package.xml"))
    ros = {
        *("rclpy", "rcl_interfaces", "lifecycle_msgs"),
        *("launch", "launch_ros", "ros2launch", "ros2bag", "rosbag2_storage_mcap"),
        *("builtin_interfaces", "rosgraph_msgs", "std_srvs", "diagnostic_msgs"),
        *("geometry_msgs", "nav_msgs", "sensor_msgs", "std_msgs", "tf2_msgs"),
        "visualization_msgs",
    }
    assert {depend.name for depend in package.exec_depends} == {
        *filter(None, ROSDEP.values()),
        *ros,
    }


def test_the_limit_on_numpy_is_the_next_major_version(run):
    """The page asks the Python that ROS runs under; this Python stands for it here."""
    page = (ROOT / "docs" / "start" / "ROBOT.md").read_text()
    (program,) = re.findall(r"limit=\$\(/usr/bin/python3 -c '(.*)'\)", page)
    major = int(metadata.version("numpy").split(".")[0])
    assert run(sys.executable, "-c", program) == f"{major + 1}\n"
