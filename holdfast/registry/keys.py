"""`holdfast key` and `holdfast sign`: a signer's keys, and the signature beside a bundle."""

from __future__ import annotations

import time
from pathlib import Path

from tyro.conf import Positional

from holdfast import files
from holdfast.bundle import reader as bundles
from holdfast.errors import BundleError
from holdfast.registry import signing
from holdfast.registry.signing import PrivateKey, Purpose


def key(file: Positional[Path]) -> None:
    """Make a key pair for signing bundles.

    The private key stays with the signer. The printed line names the public key; it belongs under
    `trusted_keys` in the files of the robots that should obey this signer.

    Args:
        file: path of the new private key. A file of this name is never replaced.
    """
    made = PrivateKey.new()
    made.save(file)
    print(f"{file}: private key; keep it off the robots")
    print(f"{file.stem}: {made.public}")


def sign(
    policy: Positional[Path],
    key: Path,
    purpose: Purpose,
    hardware_id: str = "",
    counter: int | None = None,
) -> None:
    """Sign a bundle, so that robots that trust the key may run it.

    The signature is written beside the bundle, and replaces an earlier one.

    Args:
        policy: the bundle, an .onnx file. It is checked first.
        key: the signer's private key, which `holdfast key` wrote.
        purpose: `canary`: the bundle may be tried under a tightened episode cap. `promoted`: the
            bundle may also take the place of the promoted policy.
        hardware_id: the only robot that may run the bundle. Default: every robot of the bundle's
            contract.
        counter: a robot refuses a bundle whose counter is below one that it ran already. Default:
            the time in seconds since 1970.
    """
    signer = PrivateKey.load(key)
    held = bundles.load(policy)
    data = files.read(policy, bundles.LARGEST)
    if signing.digest(data) != held.hash:
        raise BundleError(f"{policy}: changed while it was read")
    number = int(time.time()) if counter is None else counter
    signed = signer.sign(data, held.contract.robot, purpose, number, hardware_id)
    path = signing.save(signed, policy)
    whom = hardware_id or f"every robot '{held.contract.robot}'"
    print(f"{path}: {purpose} for {whom}, counter {number}, by {signer.public}")
