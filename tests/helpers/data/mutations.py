"""Inputs that nobody should send: mutated bytes, mutated plain data, and values of options."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = (
    *("", " ", "[/x]", "[red]", "a\nb", "\x1b[2J", "\udcff", "../../etc/passwd", "/", "."),
    *("-1", "0", "1:30", "010", "1e999", "nan", "inf", "-inf", "1e300", "9" * 25, "9" * 5000),
    *("yes", "null", "None", "--", "-", "=", "a=b", "x" * 300, "%s", "{}", "💥", "\u202e"),
)
"""What may be given for an option."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 10**38, -0.5, 1e300, 1e-300, float("nan")),
    *(
        float("inf"),
        "",
        "x",
        "[/x]",
        "a\nb",
        "../../etc/passwd",
        "evil.py:T",
        "holdfast/",
        "\u0000",
    ),
    *([], {}, [[]], [None], [1, 2, 3], {"": None}, {"x": 1}, ["x"] * 100),
)
"""What may stand for any value in plain data."""

CHUNKS = (
    *(b"", b"\x00", b"\xff", b"\xff\xfe", b"[" * 3000, b"{" * 50, b"&a [*a]", b"*a", b"!!x y"),
    *(b"\n", b"\r", b"\t", b": ", b"? ", b"- ", b"'", b'"', b"%YAML 1.1\n", b"---\n", b"#", b","),
    *(b"NaN", b".nan", b"1e999", b"1:30", b"9" * 5000, b'"\\ud800"', b'"\\UFFFFFFFF"', b"\x1b[2J"),
)
"""What may stand anywhere in a file."""


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a file's bytes with something wrong."""
    if rng.random() < 0.1:
        return rng.choice((b"", b"\x00" * 1000, rng.randbytes(200), b"[" * 3000, data + data))
    for _ in range(rng.choice((1, 1, 1, 5, 50))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 4, 100)))
        put = rng.choice((*CHUNKS, rng.randbytes(1), data[start : start + 50]))
        data = data[:start] + put + data[end:]
    return data if rng.random() < 0.8 else data[: rng.randrange(len(data) + 1)]


def mutated_plain(data: Any, rng: random.Random) -> Any:
    """Return plain data in which a value is another, is gone, or has another key."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(data))
        if not places:
            break
        holder, key = rng.choice(places)
        how = rng.random()
        if how < 0.7:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif how < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(("x", "", "[/x]", str(key) + "s"))] = holder.pop(key)
        else:
            holder.append(holder[key])
    return data


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, (dict, list)):
        for key, item in list(node.items() if isinstance(node, dict) else enumerate(node)):
            yield node, key
            yield from _places(item)


def paths(folder: Path) -> list[str]:
    """Return paths that are no readable file, or have names that few expect."""
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "empty").touch()
    (folder / "empty.onnx").touch()
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")
    loop = folder / "loop"
    if not loop.is_symlink():
        loop.symlink_to(loop)
    names = ("none", "folder", "empty", "empty.onnx", "pipe", "loop", "[/x].onnx", "a\nb.onnx")
    return [
        *(str(folder / name) for name in (*names, "\udcff.onnx", "x" * 300, "empty/below")),
        *("/dev/null", "/proc/self/nothing", "/dev/zero", "/"),
    ]
