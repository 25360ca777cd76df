"""Fuzz the parts that take in what others say: device, link, log, contract, costs, monitor.

    pip install atheris                                # wheels for CPython 3.11 to 3.13
    python -m tests.fuzz.fuzz link 600                 # guided by coverage, for 600 seconds
    python -m tests.fuzz.fuzz monitor 600 --volume     # random, as many as there is time for

A guided run starts from corpus/TARGET and adds to runs/fuzz/TARGET; what broke a promise is left
there as crash-*. `--volume` needs no atheris, and ends in a count of bytes and of monitor steps;
with another `--seed` it tries other inputs. What is worth keeping goes to corpus/TARGET by hand:
test_corpus.py replays it in every test run.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

NAMES = ("device", "link", "contract", "expression", "log", "monitor")


def volume(name: str, seconds: float, seed: int, crashes: Path) -> None:
    """Run a target on random bytes, and on the corpus with random damage."""
    from tests.fuzz import targets

    rng = random.Random(seed)
    kept = [path.read_bytes() for path in sorted((targets.CORPUS / name).iterdir())]
    run = targets.play_monitor if name == "monitor" else targets.TARGETS[name]
    began = said = time.monotonic()
    tries = taken = steps = 0
    while time.monotonic() - began < seconds:
        data = _damaged(rng, rng.choice(kept)) if rng.random() < 0.3 else rng.randbytes(4000)
        try:
            steps += run(data) or 0
        except BaseException:
            path = crashes / f"crash-{name}-{seed}-{tries}"
            path.write_bytes(data)
            print(f"{name}: broken by {path}", flush=True)
            raise
        tries, taken = tries + 1, taken + len(data)
        if time.monotonic() - said > 30.0:
            said = time.monotonic()
            print(f"{name}: {tries} tries, {taken} bytes, {steps} steps", flush=True)
    print(f"{name}: {tries} tries, {taken} bytes, {steps} steps; nothing broke", flush=True)


def _damaged(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(3)
        if kind == 0 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randint(1, 16))
        else:
            del out[at : at + rng.randint(1, 64)]
    return bytes(out)


def guided(name: str, seconds: int, work: Path) -> None:
    """Run a target under libFuzzer; does not return."""
    import atheris

    with atheris.instrument_imports(include=["holdfast"]):
        from tests.fuzz import targets
    options = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={work}/",
        str(work),
        str(targets.CORPUS / name),
    ]
    atheris.Setup(options, targets.TARGETS[name])
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("seconds", type=int)
    parser.add_argument("--volume", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    work = Path("runs/fuzz") / arguments.target
    work.mkdir(parents=True, exist_ok=True)
    if arguments.volume:
        volume(arguments.target, arguments.seconds, arguments.seed, work)
    else:
        guided(arguments.target, arguments.seconds, work)


if __name__ == "__main__":
    main()
