"""`holdfast receipts`: what ran on a robot, when, and who let it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from holdfast import files
from holdfast.errors import ConfigError
from holdfast.plain import printable, shown
from holdfast.registry.signing import Signed
from holdfast.registry.state import Entry, Slot, State
from holdfast.robot.promote.promote import opened
from holdfast.schema import to_plain


@dataclass(frozen=True)
class Run:
    """A run of a policy on the robot.

    Attributes:
        begun, ended: date and time, UTC; ended is "" for a run whose end was never written, as
            after a power cut.
        bundle: SHA-256 of the policy. slot: see `Entry`.
        let_by: who put the policy into its slot, or started it from its file.
        signed_by: name of the key that signed it; "" without a signature.
        how: how the run ended. run: directory of the log.
    """

    begun: str
    ended: str
    bundle: str
    slot: str
    let_by: str
    signed_by: str
    how: str
    run: str


def command(config: Path, day: str = "", json_out: Path | None = None) -> None:
    """Show what ran on a robot and who let it, and every change of what may run there.

    Args:
        config: the robot's configuration file, with a section `registry`.
        day: show only this day, as 2026-11-24, in UTC by the robot's clock. Default: all.
        json_out: write every receipt to this JSON file too.
    """
    if day and not _is_day(day):
        raise ConfigError(f"day should be a day, written as 2026-11-24, received '{shown(day)}'")
    _, registry = opened(config)
    if json_out is not None:
        files.require_output(json_out, (".json",), (config, *registry.folder.rglob("*")))
    entries = list(registry.entries())
    if json_out is not None:
        files.write(json_out, json.dumps(to_plain(entries), indent=1) + "\n")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    changes = [e for e in entries if e.action not in ("run", "end") and e.at.startswith(day)]
    ran = [run for run in runs(entries, registry.trusted) if _on(run, day)]
    when = f" on {day}" if day else ""
    console.print(f"{len(ran)} runs of {registry.hardware_id}{when}, times in UTC:")
    for run in ran:
        console.print(f"  {printable(_run_line(run))}")
    console.print(f"{len(changes)} changes:")
    for entry in changes:
        console.print(f"  {printable(_change_line(entry, registry.trusted))}")
    signed = [entry.key for entry in entries if entry.key]
    if signed or registry.receipts_key is not None:
        by = f", by {', '.join(dict.fromkeys(signed))}" if signed else ""
        console.print(f"{len(signed)} of {len(entries)} receipts are signed{by}")
    for sentence in standing(registry.state):
        console.print(printable(f"now {sentence}" if day else sentence))


def runs(entries: Iterable[Entry], trusted: Mapping[str, str]) -> Iterator[Run]:
    """Yield the runs of a journal, the oldest first.

    Args:
        trusted: public keys by the signers' names.
    """
    begun: list[tuple[Entry, str]] = []
    ends: dict[int, Entry] = {}
    placed: dict[tuple[str, str], str] = {}  # who put a bundle into a slot
    for entry in entries:
        if entry.action == "run":
            begun.append((entry, placed.get((entry.slot, entry.bundle), entry.by)))
        elif entry.action == "end":
            which = [e.number for e, _ in begun if (e.run, e.bundle) == (entry.run, entry.bundle)]
            ends.update({which[-1]: entry} if which else {})
        elif entry.action in ("canary", "promote"):
            slot = "canary" if entry.action == "canary" else "promoted"
            placed[slot, entry.bundle] = f"{entry.by}, receipt {entry.number}"
        elif entry.action == "rollback":
            back = entry.state.slot("promoted").bundle
            placed["promoted", back] = f"{entry.by}, receipt {entry.number}"
    for entry, let_by in begun:
        end = ends.get(entry.number)
        yield Run(
            begun=entry.at,
            ended="" if end is None else end.at,
            bundle=entry.bundle,
            slot=entry.slot,
            let_by=let_by,
            signed_by=signer(entry.signed, trusted),
            how="no end was written" if end is None else end.why,
            run=entry.run,
        )


def signer(signed: Signed | None, trusted: Mapping[str, str]) -> str:
    """Return the name of the key that signed a bundle; of an unknown key the key itself."""
    if signed is None:
        return ""
    key = signed.statement.key
    return next((name for name, public in trusted.items() if public == key), key)


def standing(state: State) -> list[str]:
    """Return in sentences what may run on a robot."""

    def shown(slot: Slot | None) -> str:
        if slot is None:
            return "none"
        held = " (held)" if slot.bundle in state.held else ""
        return f"{slot.bundle[:12]}{_limits(slot)}{held}"

    slots = (("promoted", state.promoted), ("previous", state.previous), ("canary", state.canary))
    said = [f"{name}: {shown(slot)}" for name, slot in slots]
    return said + [f"held: {bundle[:12]}, {why}" for bundle, why in state.held.items()]


def _is_day(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text  # not 20261124
    except ValueError:
        return False


def _on(run: Run, day: str) -> bool:
    """Return whether a run was under way on a day; without an end, on the day of its begin."""
    return not day or run.begun[:10] <= day <= (run.ended or run.begun)[:10]


def _run_line(run: Run) -> str:
    signed = f", signed by {run.signed_by}" if run.signed_by else ""
    return (
        f"{run.begun} to {run.ended or '?'}: {run.slot or 'by its file'} {run.bundle[:12]}, let by "
        f"{run.let_by}{signed}: {run.how}; log {run.run or 'none'}"
    )


def _change_line(entry: Entry, trusted: Mapping[str, str]) -> str:
    name = signer(entry.signed, trusted)
    signed, why = f", signed by {name}" if name else "", f": {entry.why}" if entry.why else ""
    slot = {"canary": entry.state.canary, "promote": entry.state.promoted}.get(entry.action)
    under = _limits(slot) if slot else ""
    what = f"{entry.action} {entry.bundle[:12]}{under} by {entry.by}{signed}{why}"
    return f"receipt {entry.number}, {entry.at}: {what}"


def _limits(slot: Slot) -> str:
    """Return the limits in force in a slot as words; "" where they are the contract's own."""
    return f" under limit {', '.join(f'{limit:g}' for limit in slot.limit)}" if slot.limit else ""
