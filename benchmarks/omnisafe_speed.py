"""How fast OmniSafe trains CPO on Safety-Gymnasium's PointCircle1, for docs/measured/SPEED.md.

It needs older packages than Holdfast, which it does not import, and so an environment of its own,
of Python 3.10 at most: omnisafe==0.5.0, safety-gymnasium==1.0.0 and what they ask for (numpy<1.24).

    python -m benchmarks.omnisafe_speed [--no-textures]

Prints steps per second, updates included, and what one update of 20,000 samples takes, of the
second epoch.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from pathlib import Path

import mujoco
import omnisafe

EPOCHS = 2
BATCH = 20_000


def strip_textures() -> None:
    """Leave out pictures of sky and floor, which Safety-Gymnasium decodes anew at each reset."""
    compiled = mujoco.MjModel.from_xml_string

    def plain(xml: str) -> mujoco.MjModel:
        xml = re.sub(r"<texture\b[^>]*?(/>|>\s*</texture>)", "", xml)
        return compiled(re.sub(r'\btexture="[^"]*"', "", xml))

    mujoco.MjModel.from_xml_string = plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-textures", action="store_true")
    if parser.parse_args().no_textures:
        strip_textures()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "train_cfgs": {"total_steps": EPOCHS * BATCH, "vector_env_nums": 1, "torch_threads": 1},
            "algo_cfgs": {"steps_per_epoch": BATCH},
            "logger_cfgs": {"use_wandb": False, "use_tensorboard": False, "log_dir": folder},
        }
        omnisafe.Agent("CPO", "SafetyPointCircle1-v0", custom_cfgs=settings).learn()
        (path,) = Path(folder).rglob("progress.csv")
        rows = list(csv.DictReader(path.open()))[1:]
    for row in rows:
        rollout, update = float(row["Time/Rollout"]), float(row["Time/Update"])
        print(f"{BATCH / (rollout + update):.0f} steps/s; update {update:.2f} s", flush=True)


if __name__ == "__main__":
    main()
