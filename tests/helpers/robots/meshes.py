"""A cart whose parts are meshes that are seen and collide, as in TurtleBot3's published models."""

from pathlib import Path

import numpy as np

from tests.helpers.robots.carts import mjcf

MESH = '<mesh name="{name}" file="{name}.stl" inertia="shell"/>'
SEEN = '<geom type="mesh" mesh="{name}" mass="0" contype="0" conaffinity="0" group="2"/>'
COLLIDES = '<geom type="mesh" mesh="{name}" mass="0" group="3"/>'
CASTER = (
    '<geom name="caster" type="sphere" size="0.02" pos="-0.13 0 -0.03" mass="0.05" condim="1" '
    'priority="1"/>'
)


def dome(file: Path, side: int) -> None:
    """Write a dome of 20 cm, with 2 (side − 1)² triangles, as a binary STL file."""
    along = np.linspace(-0.1, 0.1, side)
    x, y = np.meshgrid(along, along)
    corner = np.stack((x, y, 0.05 - x * x - y * y), axis=-1).astype("<f4")
    lower = np.stack((corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:]), axis=2)
    upper = np.stack((corner[1:, 1:], corner[:-1, 1:], corner[1:, :-1]), axis=2)
    triangles = np.concatenate((lower.reshape(-1, 9), upper.reshape(-1, 9)))
    facets = np.zeros(len(triangles), dtype=[("n", "<f4", 3), ("v", "<f4", 9), ("a", "<u2")])
    facets["v"] = triangles
    file.write_bytes(bytes(80) + len(triangles).to_bytes(4, "little") + facets.tobytes())


def write_cart(folder: Path, sides: tuple[int, ...]) -> Path:
    """Write the model of a cart with a dome for each side, in points; return its file."""
    names = [f"dome_{i}" for i in range(len(sides))]
    for name, side in zip(names, sides, strict=True):
        dome(folder / f"{name}.stl", side)
    assets = "".join(MESH.format(name=name) for name in names)
    geoms = "".join(text.format(name=name) for name in names for text in (SEEN, COLLIDES))
    file = folder / "cart.xml"
    file.write_text(mjcf(CASTER + geoms, more=f"<asset>{assets}</asset>"))
    return file
