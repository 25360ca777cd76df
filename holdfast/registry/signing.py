"""Ed25519 signatures of bundles: who says that a robot may run a file, and as what.

A signature stands beside its bundle, in `policy.onnx.signature`. It signs a statement: the SHA-256
of the bundle's bytes, the robot, the purpose and a counter (RFC 8032; the `cryptography` package
computes it). A robot verifies it before anything reads the bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from holdfast import files, how_to_install, plain
from holdfast.errors import BundleError, ConfigError, FileError
from holdfast.schema import NAME, Matching, Range, check, read, to_plain

FORMAT = 1
SUFFIX = ".signature"
MAX_BYTES = 4096
"""Largest signature and largest key file, bytes."""

Purpose = Literal["canary", "promoted"]
CANARY: Purpose = "canary"
PROMOTED: Purpose = "promoted"
"""The purposes of a signature, which are also the slots of a robot. A bundle that may be promoted
may be tried as canary too."""

_CONTEXT = b"holdfast signature 1\n"
"""Begins what is signed, so that no signature made for something else is taken for one of these."""

DIGEST = Matching(re.compile(r"[0-9a-f]{64}"), "the SHA-256 of a file, 64 hex digits")
PUBLIC_KEY = Matching(re.compile(r"ed25519:[0-9a-f]{64}"), "ed25519: and 64 hex digits")
SIGNATURE = Matching(re.compile(r"[0-9a-f]{128}"), "128 hex digits")
_UNIT = Matching(
    re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,200}"), "at most 200 printable characters"
)

MOST_COUNTER = 2**53
"""A counter is a JSON number; Unix time in seconds is far below."""


@dataclass(frozen=True)
class Statement:
    """What a signature says of a bundle.

    Attributes:
        bundle: SHA-256 of the file, in hex.
        robot: the robot's name in contracts.
        hardware_id: the one robot that may run the bundle; "": every robot of this name.
        purpose: the slot that the bundle may fill; see `PROMOTED`.
        counter: rises from one signed bundle to the next; a robot refuses to go back.
        signed_at: date and time of the signing computer, UTC, for people.
        key: the signer's public key.
    """

    format: Annotated[int, Range(FORMAT, FORMAT)]
    bundle: Annotated[str, DIGEST]
    robot: Annotated[str, NAME]
    hardware_id: Annotated[str, _UNIT]
    purpose: Purpose
    counter: Annotated[int, Range(0, MOST_COUNTER)]
    signed_at: str
    key: Annotated[str, PUBLIC_KEY]

    def __post_init__(self) -> None:
        check(self, BundleError)

    def to_bytes(self) -> bytes:
        """Return what is signed."""
        text = json.dumps(to_plain(self), sort_keys=True, separators=(",", ":"))
        return _CONTEXT + text.encode()


@dataclass(frozen=True)
class Signed:
    """A statement with its signature, in hex."""

    statement: Statement
    signature: Annotated[str, SIGNATURE]

    def verify(self) -> None:
        """Raise BundleError unless the signature is that of the statement by its key."""
        if not is_signed(self.statement.to_bytes(), self.statement.key, self.signature):
            raise BundleError(
                "its signature is wrong: the statement was altered, or another key made it"
            )


def is_signed(message: bytes, key: str, signature: str) -> bool:
    """Return whether a signature, in hex, is that of a message by a public key."""
    from_bytes = _ed25519().Ed25519PublicKey.from_public_bytes
    try:
        from_bytes(bytes.fromhex(key.partition(":")[2])).verify(bytes.fromhex(signature), message)
    except Exception:  # InvalidSignature; ValueError of a key that is none
        return False
    return True


def beside(bundle: Path) -> Path:
    """Return the path of a bundle's signature."""
    return bundle.with_name(bundle.name + SUFFIX)


def load(path: Path) -> Signed:
    """Read a signature, which is not verified yet.

    Raises:
        BundleError: the file is malformed, or cannot be read.
    """
    text = plain.read_text(path, BundleError, MAX_BYTES)
    try:
        data = plain.from_json(text)
    except ValueError as error:
        raise BundleError(f"{path}: should be JSON ({error})") from None
    return read(Signed, data, str(path), BundleError, complete=True)


def find(bundle: Path) -> Signed | None:
    """Read the signature beside a bundle, if there is one; see `load`."""
    path = beside(bundle)
    return load(path) if path.exists() else None


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


class PrivateKey:
    """A signer's key, from its PEM file."""

    def __init__(self, key: Any) -> None:
        self._key = key

    @staticmethod
    def new() -> PrivateKey:
        """Return a new random key.

        Raises:
            ConfigError: the package `cryptography` is not installed.
        """
        return PrivateKey(_ed25519().Ed25519PrivateKey.generate())

    @staticmethod
    def load(path: Path) -> PrivateKey:
        """Read a key's file.

        Raises:
            ConfigError: the file holds no such key, or others than its owner may read it.
        """
        kind = _ed25519().Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            data = files.read(path, MAX_BYTES)
            if others := path.stat().st_mode & 0o077:
                raise ConfigError(
                    f"{path}: should be readable by its owner alone (mode 600), others have "
                    f"{others:02o}"
                )
            key = load_pem_private_key(data, password=None)
        except FileError as error:
            raise ConfigError(str(error)) from None
        except (ValueError, TypeError):  # no PEM; it has a password
            key = None
        if not isinstance(key, kind):
            raise ConfigError(f"{path}: should be a private Ed25519 key, as `holdfast key` writes")
        return PrivateKey(key)

    def save(self, path: Path) -> None:
        """Write the key to a new file that only its owner can read.

        Raises:
            ConfigError: a file of this name is there already, or cannot be written.
        """
        from cryptography.hazmat.primitives import serialization as kinds

        pem = self._key.private_bytes(
            kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption()
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(descriptor)
        except FileExistsError:
            raise ConfigError(f"{path}: is there already; a key should never be lost") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None

    @property
    def public(self) -> str:
        """The public key, as a robot's file names it."""
        raw: bytes = self._key.public_key().public_bytes_raw()
        return f"ed25519:{raw.hex()}"

    def sign(
        self, data: bytes, robot: str, purpose: Purpose, counter: int, hardware_id: str = ""
    ) -> Signed:
        """Sign a bundle's bytes; see `Statement`."""
        statement = Statement(
            format=FORMAT,
            bundle=digest(data),
            robot=robot,
            hardware_id=hardware_id,
            purpose=purpose,
            counter=counter,
            signed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            key=self.public,
        )
        return Signed(statement, self.sign_bytes(statement.to_bytes()))

    def sign_bytes(self, message: bytes) -> str:
        """Return the signature of a message, in hex."""
        signature: bytes = self._key.sign(message)
        return signature.hex()


def save(signed: Signed, bundle: Path) -> Path:
    """Write a signature beside its bundle and return its path."""
    path = beside(bundle)
    files.write(path, json.dumps(to_plain(signed), indent=1) + "\n")
    return path


def _ed25519() -> Any:
    """Return the module of the `cryptography` package that signs and verifies."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ConfigError(
            "signatures need the Python package 'cryptography', which is not installed: "
            + how_to_install("sign")
        ) from None
    return ed25519
