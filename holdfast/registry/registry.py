"""A registry: a folder with what may run on one robot, and what was done and run there.

    journal/00000042.json   one entry for each change and each begin and end of a run
    bundles/SHA256.onnx     each bundle, under the SHA-256 of its bytes
    bundles/SHA256.json     its lineage: parent, logs, contract
    evidence/SHA256.json    what its episodes on this robot say of its costs; with sampled actions
                            in SHA256-explore.json
    lock                    held while an entry is added; empty until the first one

The newest entry is the state. It refers to files that were written before it, and it appears by one
renaming, so a computer that loses its power is left with the state before a change or after it.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast import files, plain
from holdfast.errors import BundleError, FileError, RegistryError
from holdfast.registry.signing import PrivateKey, Purpose, Signed, digest
from holdfast.registry.state import FORMAT, Action, Entry, Slot, SlotName, State
from holdfast.schema import read, to_plain

MOST_TEXT = 1000
"""Most characters of a reason and of a name."""

WAIT_S = 10.0
"""Longest time to wait for another process that adds an entry."""

_ENTRY = re.compile(r"[0-9]{8}\.json")


class Registry:
    """The registry of one robot. A folder that does not exist yet is an empty registry.

    Args:
        folder: path of the folder.
        robot: the robot's name in contracts.
        hardware_id: this very robot.
        trusted: public keys of the signers, by their names; empty: signatures are not looked at.
        receipts_key: file of the private key with which this robot signs its receipts; None: they
            are not signed.
    """

    def __init__(
        self,
        folder: Path,
        robot: str,
        hardware_id: str,
        trusted: Mapping[str, str],
        receipts_key: Path | None = None,
    ) -> None:
        self.folder, self.robot, self.hardware_id = folder, robot, hardware_id
        self.trusted, self.receipts_key = trusted, receipts_key

    @property
    def state(self) -> State:
        """The newest state.

        Raises:
            RegistryError: it cannot be read, or is that of another robot.
        """
        return self._newest()[2]

    def bundle(self, sha256: str) -> Path:
        """Return the path of a bundle."""
        return self.folder / "bundles" / f"{sha256}.onnx"

    def evidence(self, slot: Slot) -> Path:
        """Return the path of the evidence of a policy, run as its slot says."""
        how = "-explore" * slot.explore + "".join(f"-{limit!r}" for limit in slot.limit)
        return self.folder / "evidence" / f"{slot.bundle}{how}.json"

    def evidences(self, sha256: str) -> list[Path]:
        """Return the paths of the evidence of a bundle, however it ran."""
        return sorted((self.folder / "evidence").glob(f"{sha256}*.json"))

    def known(self) -> list[str]:
        """Return the SHA-256 of every bundle that is kept here."""
        return sorted(path.stem for path in (self.folder / "bundles").glob("*.onnx"))

    def allow(
        self, state: State, bundle: str, signed: Signed | None, purpose: Purpose, path: Path
    ) -> None:
        """Check that a bundle may run in a slot; nothing has read the bundle yet.

        Args:
            bundle: SHA-256 of the file's bytes.
            path: of the file, for error sentences.

        Raises:
            BundleError: the bundle is held, or its signature does not allow it.
        """
        try:
            state.require_free(bundle)
            if self.trusted:
                state.require_signed(bundle, signed, purpose, self.trusted)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None

    def read(self, sha256: str) -> bytes:
        """Return the bytes of a bundle.

        Raises:
            BundleError: the file is missing, or is not what it was.
        """
        path = self.bundle(sha256)
        try:
            data = files.read(path, path.stat().st_size)
        except (FileError, OSError) as error:
            raise BundleError(f"{path}: cannot be read ({error})") from None
        if digest(data) != sha256:
            raise BundleError(f"{path}: should have the SHA-256 of its name; it was altered")
        return data

    def keep(self, data: bytes, lineage: Mapping[str, Any]) -> None:
        """Keep a bundle and its lineage; they are on the disk when this returns.

        Raises:
            FileError: they cannot be written.
        """
        self._begin()
        path = self.bundle(digest(data))
        files.write(path.with_suffix(".json"), json.dumps(lineage, indent=1) + "\n")
        files.write(path, data)

    def add(
        self,
        action: Action,
        bundle: str,
        change: Callable[[State], State],
        *,
        by: str = "",
        slot: SlotName = "",
        signed: Signed | None = None,
        why: str = "",
        run: str = "",
    ) -> Entry:
        """Change the state, and add the receipt; see `Entry`.

        Args:
            change: returns the state after the change, or raises to refuse it.
            by: who asks for it; "": the account that this process runs under.

        Raises:
            RegistryError: a text is too long, or has bytes that are no characters.
            ConfigError: the robot's key for receipts cannot be read.
            FileError: the entry cannot be written; the state is as it was.
        """
        key = None if self.receipts_key is None else PrivateKey.load(self.receipts_key)
        for name, text in (("by", by), ("why", why)):
            _require_text(name, text)
        self._begin()
        with files.locked(self.folder / "lock", WAIT_S) as lock:
            number, before, state = self._newest()
            if number > 0:
                self._require_key(self._read(number - 1)[0].key, key)
            if number == 0:
                why = "; ".join(filter(None, (why, self.begun_text)))
            entry = Entry(
                format=FORMAT,
                number=number,
                before=before,
                at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                by=by or account(),
                action=action,
                bundle=bundle,
                slot=slot,
                signed=signed,
                why=why,
                run=run,
                state=change(state),
            )
            entry = entry if key is None else entry.signed_by(key)
            data = json.dumps(to_plain(entry), indent=1) + "\n"
            self._parsed(data, number)  # what cannot be read again would end the registry
            files.write(self._path(number), data)
            with contextlib.suppress(OSError):  # the change is done
                if os.fstat(lock).st_size == 0:
                    os.write(lock, b"held while an entry is added to journal/\n")
        return entry

    @property
    def begun_text(self) -> str:
        """What the first receipt says, and the person who caused it should read."""
        return f"a new registry was begun in {plain.printable(str(self.folder))}"

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, the oldest first.

        Raises:
            RegistryError: an entry is missing, was altered, or cannot be read.
        """
        before, key = "", ""
        for number in range(self._count()):
            entry, sha256 = self._read(number)
            self._require_signed(entry, key)
            key = entry.key
            if entry.before != before:
                raise RegistryError(
                    f"{self._path(number)}: does not follow the entry before it; one of them was "
                    "altered"
                )
            yield entry
            before = sha256

    def unended(self, bundle: str, slot: str) -> list[str]:
        """Return the logs of a policy's runs whose end was never written, the oldest first."""
        begun: list[str] = []
        for entry in self.entries():
            if (entry.bundle, entry.slot) == (bundle, slot):
                if entry.action == "run":
                    begun.append(entry.run)
                elif entry.action == "end" and entry.run in begun:
                    begun.remove(entry.run)
        return begun

    def _newest(self) -> tuple[int, str, State]:
        """Return the next entry's number, the newest entry's SHA-256, and its state."""
        number = self._count()
        if number == 0:
            return 0, "", State(self.robot, self.hardware_id)
        entry, sha256 = self._read(number - 1)
        if not entry.key and number > 1:
            self._require_signed(entry, self._read(number - 2)[0].key)
        state = entry.state
        if (state.robot, state.hardware_id) != (self.robot, self.hardware_id):
            raise RegistryError(
                f"{self.folder}: is the registry of {state.hardware_id} ('{state.robot}'), not of "
                f"{self.hardware_id} ('{self.robot}')"
            )
        return number, sha256, state

    def _require_key(self, before: str, key: PrivateKey | None) -> None:
        """Raise RegistryError unless the next receipt is signed as the newest one is."""
        now = "" if key is None else key.public
        if before and now != before:
            raise RegistryError(
                f"{self.folder}: its receipts are signed by {before}; registry.receipts_key should "
                f"name this key, received {now or 'none'}. Another key begins a new registry"
            )

    def _require_signed(self, entry: Entry, key: str) -> None:
        """Raise RegistryError if a receipt is not signed, and the one before it is, by a key."""
        if key and not entry.key:
            raise RegistryError(
                f"{self._path(entry.number)}: should be signed, as the receipt before it is"
            )

    def _read(self, number: int) -> tuple[Entry, str]:
        text = plain.read_text(self._path(number), RegistryError)
        return self._parsed(text, number), digest(text.encode())

    def _parsed(self, text: str, number: int) -> Entry:
        path = self._path(number)
        if len(text) > plain.MAX_BYTES:
            raise RegistryError(f"{path}: should have at most {plain.MAX_BYTES} bytes")
        try:
            data = plain.from_json(text)
        except ValueError as error:
            raise RegistryError(f"{path}: should be JSON ({error})") from None
        entry = read(Entry, data, str(path), RegistryError, complete=True)
        if entry.number != number:
            raise RegistryError(f"{path}: should have the number {number}, it has {entry.number}")
        try:
            entry.require_whole()
        except RegistryError as error:
            raise RegistryError(f"{path}: {error}") from None
        return entry

    def _path(self, number: int) -> Path:
        return self.folder / "journal" / f"{number:08d}.json"

    def _count(self) -> int:
        """Return the number of entries, by the highest number: a missing one is an error.

        Raises:
            RegistryError: the journal cannot be read, or is away: its holds would be forgotten.
        """
        signs: tuple[str, ...] = ("evidence",)  # of entries that were there
        try:
            names = os.listdir(self.folder / "journal")
        except FileNotFoundError:
            names, signs = [], ("bundles", "evidence", "lock")
        except OSError as error:
            raise RegistryError(f"{self.folder}: cannot be read ({error.strerror})") from None
        numbers = [int(name[:8]) for name in names if _ENTRY.fullmatch(name)]
        if not numbers:
            left = [name for name in signs if os.path.lexists(self.folder / name)]
            with contextlib.suppress(OSError):
                left += ["lock"] * (not left and (self.folder / "lock").stat().st_size > 0)
            if left:
                raise RegistryError(
                    f"{self.folder}: should have its receipts in journal/, which are away, while "
                    f"{', '.join(left)} is there; what is held is not known without them. Bring "
                    "journal/ back, or move the whole folder away to begin a new registry"
                )
        return max(numbers, default=-1) + 1

    def _begin(self) -> None:
        """Make the folder of a new registry, the journal first: a kill may come at any time."""
        self._count()
        try:
            (self.folder / "journal").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self.folder}: cannot be written ({error.strerror})") from None


def _require_text(name: str, text: str) -> None:
    try:
        text.encode()
        fits = len(text) <= MOST_TEXT
    except UnicodeEncodeError:  # bytes of a terminal that does not write UTF-8
        fits = False
    if not fits:
        raise RegistryError(
            f"{name} should be a text of at most {MOST_TEXT} characters in UTF-8, received "
            f"'{plain.shown(text)}'"
        )


def account() -> str:
    """Return the name of the account that this process runs under."""
    try:
        return plain.printable(getpass.getuser())[:MOST_TEXT]
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
