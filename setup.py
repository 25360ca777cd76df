"""Package metadata. Tools are configured in pyproject.toml, colcon's script folder in setup.cfg."""

from glob import glob
from pathlib import Path

from setuptools import Distribution, find_packages, setup

NAME = "holdfast"
DISTRIBUTION = "holdfast-robot"  # `holdfast` on PyPI is somebody else's package

RUN = [
    "numpy>=1.24",
    "onnxruntime>=1.17",
    "pyserial>=3.5",
    "cobs>=1.2",
    "mcap>=1.5",
    "lz4>=4.0",  # chunks of logs, as mcap needs it too
    "zstandard>=0.22",  # chunks of logs, as mcap needs it too
    "pyyaml>=6.0",
    "tyro>=0.9.4",
    "rich>=13",
]
TRAIN = [
    "torch>=2.9",
    "mujoco>=3.3,!=4.0.0",  # 4.0.0 has a wrong factor in the Newton solver's Hessian
    "gymnasium>=1.0",
    "onnx>=1.16",
    "safetensors>=0.4",
    "matplotlib>=3.8",
    "pillow>=10",
    "tensorboard>=2.16",
    "scipy>=1.15",
]
DDS = ["cyclonedds>=11"]
ROS = [  # rclpy over Fast DDS for a Python without ROS 2; a sourced ROS 2 needs none of it
    f"ros-{name}; python_version >= '3.11'"
    for name in (
        "rclpy[fastrtps]",
        "builtin-interfaces",
        "diagnostic-msgs",
        "geometry-msgs",
        "lifecycle-msgs",
        "nav-msgs",
        "rcl-interfaces",
        "rosgraph-msgs",
        "sensor-msgs",
        "std-msgs",
        "std-srvs",
        "visualization-msgs",
    )
]
SIGN = ["cryptography>=42"]  # Ed25519
PARQUET = ["pyarrow>=14"]
RAY = ["ray>=2.40"]
WARP = ["mujoco-warp>=3.17"]  # older ones do not sum in one order on a GPU
DOCS = ["sphinx>=8", "myst-parser>=4", "furo"]
DEV = [
    *DOCS,
    *(f"{each}; python_version < '3.14'" for each in DDS),  # later ones have no wheel of it
    *RAY,
    *SIGN,
    *PARQUET,
    *WARP,  # its tests run on Warp's own CPU device
    "onnxscript>=0.5",  # torch.onnx needs it, by which tests make other people's policies
    "pytest>=8,<9",  # plugins that come with a sourced ROS 2 break on 9
    "pytest-timeout",
    "pytest-xdist>=3.5",
    "coverage[toml]>=7.10",
    "hypothesis>=6.100",
    "ruff>=0.9",
    "mypy>=1.11",
    "types-PyYAML",
    "mcap-ros2-support>=0.5",
    "setuptools<80",  # colcon's --symlink-install needs setup.py develop
    "wheel",
    "colcon-core",
    "colcon-ros",
]


class EveryInstallHasData(Distribution):
    """Makes `pip install -e` install data_files too.

    setuptools asks for `has_data`, which Distribution lacks, and so leaves them out.
    """

    has_data = Distribution.has_data_files


setup(
    name=DISTRIBUTION,
    distclass=EveryInstallHasData,
    version="0.1.0",
    description="From simulation to a real robot under one cost budget",
    long_description=Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The Holdfast authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["robotics", "safe reinforcement learning", "CPO", "ONNX", "ROS 2", "MuJoCo"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, NAME + ".*"]),
    package_data={
        NAME: ["py.typed"],
        NAME + ".sim.robots": ["assets/*.xml"],
        NAME + ".policy.demo": ["*.html"],
        NAME + ".robot.view": ["*.html", "*.css", "*.js"],
        NAME + ".sim.view": ["*.html", "*.js"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
        ("share/" + NAME + "/launch", glob("launch/*.launch.py")),
        ("share/" + NAME + "/config", [*glob("config/*.yaml"), *glob("config/*.json")]),
    ],
    install_requires=RUN,
    extras_require={
        "train": TRAIN,
        "dds": DDS,
        "ros": ROS,
        "ray": RAY,
        "warp": WARP,
        "sign": SIGN,
        "parquet": PARQUET,
        "docs": DOCS,
        "dev": DEV,
    },
    entry_points={
        "console_scripts": [
            "holdfast = holdfast.cli:main",
            "policy_node = holdfast.robot.ros.policy_node:main",
            "safety_monitor_node = holdfast.robot.ros.safety_monitor_node:main",
            "base_node = holdfast.robot.ros.base_node:main",
            "twin_node = holdfast.sim.twin.node:main",
        ]
    },
    zip_safe=False,
)
