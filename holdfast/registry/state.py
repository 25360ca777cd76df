"""What a registry remembers: the slots of one robot, and a receipt for every change and run.

The methods of `State` are the changes; each returns the state after it. Every entry of the
journal holds the whole state, so that writing one file is at once the change and its receipt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from holdfast.errors import BundleError, RegistryError
from holdfast.registry.signing import (
    CANARY,
    DIGEST,
    PROMOTED,
    PrivateKey,
    Purpose,
    Signed,
    is_signed,
)
from holdfast.schema import NAME, POSITIVE, Matching, Range, check, later, to_plain

FORMAT = 1

Digest = Annotated[str, DIGEST]
Action = Literal["canary", "promote", "rollback", "hold", "release", "run", "end"]
SlotName = Literal["", "canary", "promoted"]

NO_KEY = Matching(re.compile(r"|ed25519:[0-9a-f]{64}"), "a public key, or empty")
NO_SIGNATURE = Matching(re.compile(r"|[0-9a-f]{128}"), "128 hex digits, or empty")

_CONTEXT = b"holdfast receipt 1\n"
"""Begins what is signed, so that no signature made for something else is taken for one of these."""


@dataclass(frozen=True)
class Slot:
    """A policy that may run, and how.

    Attributes:
        bundle: SHA-256 of its file, in hex.
        signed: its signature; None on a robot without trusted keys.
        episode_cap: the episode caps under which it runs, by cost name. What its episodes proved
            holds for these caps alone, so a promoted policy keeps the caps of its trial.
        explore: whether its actions are sampled; likewise.
        allowance: most episodes of its trial; 0 for a policy that had none.
        limit: limits in force, for each cost with a range; likewise. Empty: the contract's own.
    """

    bundle: Digest
    signed: Signed | None
    episode_cap: Mapping[str, Annotated[float, POSITIVE]]
    explore: bool
    allowance: Annotated[int, Range(0)]
    limit: tuple[float, ...] = later(())


@dataclass(frozen=True)
class State:
    """What may run on a robot.

    Attributes:
        robot: its name in contracts.
        hardware_id: this very robot.
        promoted, previous, canary: the slots.
        held: why a bundle may not run any more, by its SHA-256.
        counter: highest counter of the signatures that were accepted here.
    """

    robot: Annotated[str, NAME]
    hardware_id: str
    promoted: Slot | None = None
    previous: Slot | None = None
    canary: Slot | None = None
    held: Mapping[str, str] = field(default_factory=dict)
    counter: int = 0

    def slot(self, name: Purpose) -> Slot:
        """Return the promoted policy or the canary.

        Raises:
            RegistryError: the slot is empty.
        """
        slot = self.canary if name == CANARY else self.promoted
        if slot is None:
            advice = "place one with `holdfast promote`" + " --canary" * (name == CANARY)
            raise RegistryError(f"{self.hardware_id} has no policy in the slot {name}; {advice}")
        return slot

    def tried(self, slot: Slot) -> State:
        """Return the state with another canary."""
        return replace(self.accepted(slot.signed), canary=slot)

    def promote(self, slot: Slot) -> State:
        """Return the state with another promoted policy; the promoted one becomes the previous."""
        again = self.promoted is not None and self.promoted.bundle == slot.bundle
        return replace(
            self.accepted(slot.signed).without_canary(slot.bundle),
            promoted=slot,
            previous=self.previous if again else self.promoted,
        )

    def rolled_back(self, why: str) -> State:
        """Return the state in which the previous policy is promoted, and the promoted one is held.

        Raises:
            RegistryError: there is no previous policy, or it is held.
        """
        if self.promoted is None or self.previous is None:
            raise RegistryError(f"{self.hardware_id} has no previous policy to go back to")
        self.require_free(self.previous.bundle)
        back = replace(self, promoted=self.previous, previous=None)
        return back.hold(self.promoted.bundle, why)

    def hold(self, bundle: str, why: str) -> State:
        """Return the state in which a bundle may not run; a held canary's trial has ended."""
        held = {**self.held, bundle: why}
        return replace(self.without_canary(bundle), held=held)

    def released(self, bundle: str) -> State:
        """Return the state in which a held bundle may run again.

        Raises:
            RegistryError: it is not held.
        """
        if bundle not in self.held:
            raise RegistryError(f"{bundle[:12]} is not held on {self.hardware_id}")
        return replace(self, held={key: why for key, why in self.held.items() if key != bundle})

    def without_canary(self, bundle: str) -> State:
        """Return the state without the canary, if that is this bundle."""
        is_it = self.canary is not None and self.canary.bundle == bundle
        return replace(self, canary=None) if is_it else self

    def accepted(self, signed: Signed | None) -> State:
        """Return the state that remembers a signature's counter."""
        counter = 0 if signed is None else signed.statement.counter
        return replace(self, counter=max(self.counter, counter))

    # What is refused.

    def require_free(self, bundle: str) -> None:
        """Raise BundleError if a bundle is held."""
        if bundle in self.held:
            raise BundleError(f"{bundle[:12]} is held on {self.hardware_id}: {self.held[bundle]}")

    def require_signed(
        self, bundle: str, signed: Signed | None, purpose: Purpose, trusted: Mapping[str, str]
    ) -> None:
        """Check a bundle's signature; nothing has read the bundle yet.

        Args:
            bundle: SHA-256 of the file's bytes.
            signed: the signature, or None.
            purpose: the slot that the bundle is to run in.
            trusted: public keys by the signers' names.

        Raises:
            BundleError: no signature, one of an unknown key, a wrong one, or one that does not
                say that this bundle may run on this robot now.
        """
        names = ", ".join(trusted)
        if signed is None:
            raise BundleError(f"should be signed by one of {names}, it has no signature")
        said = signed.statement
        if said.key not in trusted.values():
            raise BundleError(f"should be signed by one of {names}, received the key {said.key}")
        signed.verify()
        if said.bundle != bundle:
            raise BundleError(
                f"its signature is of another file ({said.bundle[:12]}, not {bundle[:12]})"
            )
        if said.robot != self.robot or said.hardware_id not in ("", self.hardware_id):
            whom = said.hardware_id or f"every robot '{said.robot}'"
            raise BundleError(f"is signed for {whom}, not for {self.hardware_id} ('{self.robot}')")
        if purpose == PROMOTED and said.purpose != PROMOTED:
            raise BundleError(
                f"is signed as {said.purpose}; that should be {PROMOTED}, see `holdfast sign`"
            )
        slots = (self.promoted, self.previous, self.canary)
        in_a_slot = bundle in [slot.bundle for slot in slots if slot is not None]
        if said.counter < self.counter and not in_a_slot:
            raise BundleError(
                f"its signature's counter should be at least {self.counter}, which "
                f"{self.hardware_id} accepted already, received {said.counter}"
            )


@dataclass(frozen=True)
class Entry:
    """A receipt: what was done, when, by whom, and the state after it.

    Attributes:
        number: from 0.
        before: SHA-256 of the entry before this one; "" for the first.
        at: date and time of the robot's clock, UTC, as text that sorts.
        by: the person or account that asked for it.
        action: what was done; `run` and `end` are the begin and the end of a run.
        bundle: SHA-256 of the policy that it is about.
        slot: the slot of a run's policy; "" for a policy that was named by its file.
        signed: the signature that the bundle came with.
        why: the reason that was given, or how a run ended.
        run: directory of the run's log.
        key, signature: the robot's public key, and its signature of this receipt (`to_bytes`);
            "" where the robot's file names no key for receipts.
    """

    format: Annotated[int, Range(FORMAT, FORMAT)]
    number: Annotated[int, Range(0)]
    before: str
    at: str
    by: str
    action: Action
    bundle: Digest
    slot: SlotName
    signed: Signed | None
    why: str
    run: str
    state: State
    key: Annotated[str, NO_KEY] = ""
    signature: Annotated[str, NO_SIGNATURE] = ""

    def __post_init__(self) -> None:
        check(self, RegistryError)

    def to_bytes(self) -> bytes:
        """Return what the robot signs: the receipt without its signature."""
        text = json.dumps(to_plain(replace(self, signature="")), sort_keys=True)
        return _CONTEXT + text.encode()

    def signed_by(self, key: PrivateKey) -> Entry:
        """Return this receipt with a signature."""
        named = replace(self, key=key.public)
        return replace(named, signature=key.sign_bytes(named.to_bytes()))

    def require_whole(self) -> None:
        """Raise RegistryError if the receipt is not what its signature says."""
        if self.key and not is_signed(self.to_bytes(), self.key, self.signature):
            raise RegistryError("its signature is wrong: the receipt was altered")
