"""The page of the monitor's reasons, made from their table.

python tests/house/reasons_page.py    # writes docs/reference/REASONS.md
"""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.safety_monitor.reasons import OF_THE_EPISODE, TABLE, Kind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "REASONS.md"

HEAD = """\
# What the monitor says

Each verdict has its reasons: which check spoke, a code for programs, which does not change, the
most that it allows, and a sentence with the values for people. Codes are in the logs
(`holdfast/step`, `reasons`), in `holdfast replay` and in the status of the ROS node; their order is
that of the checks. `*` stands for a signal's name, braces hold a value's.

What a reason casts doubt on decides what follows from it:

- **robot**: its senses, its obedience, or the program that watches it. Only a stop is safe. If
  that stop ends the whole run, its last episode is not learned from.
- **policy**: whoever proposes. In FALLBACK a recovery controller may drive, where there is one.
- **episode**: where the robot is, how it moves, or what that costs. Another episode may go well.
- **operator**: nothing; a person or a program asked for something.

A stop by {checks} ends the episode; a stop by any other check ends the
run. `holdfast finetune` takes as familiar what was seen in steps without a reason, or whose reasons
are all of budget, familiarity and events, and not against the robot.

This page is made from `safety_monitor/reasons.py` by `python tests/house/reasons_page.py`.

| check | code | allows | against | sentence | when |
| --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page's text."""
    *first, last = [check.name.lower() for check in sorted(OF_THE_EPISODE)]
    rows = sorted(TABLE.values(), key=lambda kind: kind.check)
    return HEAD.format(checks=f"{', '.join(first)} or {last}") + "".join(map(_row, rows))


def _row(kind: Kind) -> str:
    code = re.sub(r"\{\w+\}", "*", kind.code)
    states = ", ".join(state.name for state in kind.states)
    sentence = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", kind.sentence)  # without the numbers' formats
    cells = (
        kind.check.name.lower(),
        f"`{code}`",
        states,
        kind.against.value,
        f"`{sentence}`",
        kind.when,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
