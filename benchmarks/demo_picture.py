"""The README's pictures: a demo's paths before and after, still and moving, from its logs.

python -m benchmarks.demo_picture [--demo runs/demo] [--out docs/demo.png] [--moving docs/demo.gif]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from holdfast import plain
from holdfast.errors import LogError
from holdfast.log import reader
from holdfast.log.reader import Log
from holdfast.policy.demo import pictures
from holdfast.policy.demo.report import SUMMARY
from holdfast.sim.registry import registered

FRAME_S, SHOWN_MS, LAST_MS = 0.2, 80, 3000
"""Time between two frames: the robot's, s, and the viewer's, ms; how long the last one stays."""

DPI, COLOURS = 72, 64


def main() -> None:
    """Draw the pictures of a demo that has run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="the demo's folder")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"), help="the still picture")
    parser.add_argument("--moving", type=Path, default=Path("docs/demo.gif"), help="the animation")
    given = parser.parse_args()
    ran = plain.read_json(given.demo / SUMMARY, LogError)["runs"]
    before, after = (reader.read(given.demo / ran[which]) for which in ("before", "after"))
    task = registered(before.info.contract.task).make()
    figure = pictures.paths_figure(before, after, task)
    figure.savefig(given.out, dpi=110, metadata={"Software": None})
    save_moving(figure, (before, after), given.moving)


def save_moving(figure: Figure, runs: tuple[Log, Log], path: Path) -> None:
    """Write the figure's paths as a GIF in which all robots of a run drive at the same time."""
    contract = runs[0].info.contract
    stride = round(FRAME_S / contract.period_s)
    frames = []
    paths = [
        [(line, line.get_segments(), line.get_colors()) for line in lines]
        for lines in (
            [each for each in axes.collections if isinstance(each, LineCollection)]
            for axes in figure.axes
        )
    ]
    robots = [axes.scatter([], [], s=14, color="#111827", zorder=4) for axes in figure.axes]
    for count in range(1, contract.episode_steps + stride, stride):
        for axes, lines, dots, run, name in zip(
            figure.axes, paths, robots, runs, ("before", "after"), strict=True
        ):
            for line, segments, colours in lines:
                line.set_segments(segments[:count])
                line.set_color(colours[:count])
                line.set_linewidth(1.0)
            dots.set_offsets([segments[:count][-1][1] for _, segments, _ in lines])
            spent = [episode.costs[1 : count + 1, 0].sum() for episode in run.episodes]
            axes.set_title(
                f"{name}: {np.mean(spent):.1f} steps outside, limit {contract.costs[0].limit:g}"
            )
        frames.append(_frame(figure))
    palette = frames[-1].quantize(COLOURS)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    shown = [SHOWN_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=shown, loop=0)


def _frame(figure: Figure) -> Image.Image:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


if __name__ == "__main__":
    main()
