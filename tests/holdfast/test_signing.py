"""Signatures of bundles: what a robot with trusted keys refuses, and why."""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.cli import main
from holdfast.errors import BundleError, ConfigError
from holdfast.registry import signing
from holdfast.registry.signing import CANARY, PROMOTED, PrivateKey, Signed, digest
from holdfast.registry.state import Slot, State
from tests.helpers.data.bundles import write_bundle

DATA = b"a bundle's bytes"
ALICE, MALLORY = (PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes([i] * 32))) for i in (1, 2))
TRUSTED = {"alice": ALICE.public}
STATE = State("drive", "drive-7", counter=5)


def signed(by=ALICE, data=DATA, robot="drive", purpose=PROMOTED, counter=5, hardware_id=""):
    return by.sign(data, robot, purpose, counter, hardware_id)


def altered(**changes):
    """A statement that was changed after it was signed."""
    good = signed()
    return Signed(dataclasses.replace(good.statement, **changes), good.signature)


def test_what_is_signed_for_this_robot_is_accepted():
    for good in (signed(), signed(counter=6), signed(hardware_id="drive-7")):
        STATE.require_signed(digest(DATA), good, PROMOTED, TRUSTED)
    STATE.require_signed(digest(DATA), signed(purpose=CANARY), CANARY, TRUSTED)


@pytest.mark.parametrize(
    ("signature", "sentence"),
    [
        (None, "should be signed by one of alice, it has no signature"),
        (signed(by=MALLORY), f"signed by one of alice, received the key {MALLORY.public}"),
        (altered(key=MALLORY.public), "signed by one of alice, received the key"),
        (altered(counter=6), "its signature is wrong"),
        (altered(hardware_id="drive-7"), "its signature is wrong"),
        (Signed(signed(by=MALLORY).statement, "0" * 128), "received the key"),
        (Signed(signed().statement, "0" * 128), "its signature is wrong"),
        (signed(data=b"another file"), "its signature is of another file"),
        (signed(robot="ant"), r"is signed for every robot 'ant', not for drive-7 \('drive'\)"),
        (signed(hardware_id="drive-8"), "is signed for drive-8, not for drive-7"),
        (signed(purpose=CANARY), "is signed as canary; that should be promoted"),
        (signed(counter=4), "counter should be at least 5, which drive-7 accepted already, rec"),
    ],
)
def test_what_a_robot_refuses(signature, sentence):
    with pytest.raises(BundleError, match=sentence):
        STATE.require_signed(digest(DATA), signature, PROMOTED, TRUSTED)


def test_going_back_to_a_slot_is_no_old_bundle():
    old = signed(counter=2)
    slot = Slot(digest(DATA), old, {}, False, 0)
    for state in (State("drive", "drive-7", promoted=slot, counter=9),
                  State("drive", "drive-7", previous=slot, counter=9)):  # fmt: skip
        state.require_signed(digest(DATA), old, PROMOTED, TRUSTED)


def test_every_bit_of_a_signature_counts():
    good = signed()
    for place in range(0, 512, 37):
        wrong = f"{int(good.signature, 16) ^ (1 << place):0128x}"
        with pytest.raises(BundleError, match="its signature is wrong"):
            Signed(good.statement, wrong).verify()


def test_a_signature_for_something_else_is_none():
    """The statement's text without its context, signed by the right key."""
    good = signed()
    bare = good.statement.to_bytes().partition(b"\n")[2]
    other = Signed(good.statement, ALICE._key.sign(bare).hex())
    with pytest.raises(BundleError, match="its signature is wrong"):
        other.verify()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "should be JSON"),
        ("[]", "should be a mapping"),
        ('{"statement": {}}', "missing"),
        ('{"statement": 1, "signature": 1}', "should be"),
        ("x" * 5000, "at most 4096 bytes"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
    ],
)
def test_files_that_are_no_signature(tmp_path, text, sentence):
    (tmp_path / "p.signature").write_text(text)
    with pytest.raises(BundleError, match=sentence):
        signing.load(tmp_path / "p.signature")


def test_a_signature_of_another_format(tmp_path):
    path = signing.save(signed(), tmp_path / "policy.onnx")
    assert signing.load(path) == signed_again(path)
    data = json.loads(path.read_text())
    data["statement"]["format"] = 2
    path.write_text(json.dumps(data))
    with pytest.raises(BundleError, match=r"statement.format should be in \[1, 1\], received 2"):
        signing.load(path)


def signed_again(path):
    data = json.loads(path.read_text())
    return Signed(signing.Statement(**data["statement"]), data["signature"])


# The commands.


def test_keys_and_signatures_from_the_command_line(tmp_path, capsys):
    key, policy = tmp_path / "keys" / "alice.pem", write_bundle(tmp_path / "policy.onnx")
    assert main(["key", str(key)]) == 0
    name, _, public = capsys.readouterr().out.splitlines()[1].partition(": ")
    assert name == "alice"
    assert key.stat().st_mode & 0o777 == 0o600
    assert main(["key", str(key)]) == 1
    assert "is there already; a key should never be lost" in capsys.readouterr().err
    options = ["--key", str(key), "--purpose", "promoted", "--counter", "7"]
    assert main(["sign", str(policy), *options]) == 0
    made = signing.find(policy)
    assert made is not None
    assert made.statement.key == public
    state = State("drive", "drive-7", counter=7)
    bundle = digest(policy.read_bytes())
    state.require_signed(bundle, made, PROMOTED, {"alice": public})


@pytest.mark.parametrize("what", ["readable", "empty", "public", "missing"])
def test_keys_that_cannot_be(tmp_path, capsys, what):
    key, policy = tmp_path / "key", write_bundle(tmp_path / "policy.onnx")
    if what == "readable":
        ALICE.save(key)
        os.chmod(key, 0o644)
    elif what != "missing":
        key.write_text({"empty": "", "public": ALICE.public}[what])
        os.chmod(key, 0o600)
    assert main(["sign", str(policy), "--key", str(key), "--purpose", "canary"]) == 1
    said = capsys.readouterr().err
    wanted = {"readable": "should be readable by its owner alone (mode 600)",
              "missing": "cannot be read"}  # fmt: skip
    assert wanted.get(what, "should be a private Ed25519 key") in said
    assert not signing.beside(policy).exists()


def test_only_a_bundle_is_signed(tmp_path, capsys):
    ALICE.save(tmp_path / "key")
    (tmp_path / "policy.onnx").write_bytes(b"nothing")
    options = ["--key", str(tmp_path / "key"), "--purpose", "canary"]
    assert main(["sign", str(tmp_path / "policy.onnx"), *options]) == 1
    assert "not a Holdfast bundle" in capsys.readouterr().err


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for name in [name for name in sys.modules if name.startswith("cryptography.")]:
        monkeypatch.delitem(sys.modules, name)
    good = signed()
    wanted = r"need the Python package 'cryptography', which is not installed: pip install '.*sign"
    with pytest.raises(ConfigError, match=wanted):
        STATE.require_signed(digest(DATA), good, PROMOTED, TRUSTED)
    with pytest.raises(ConfigError, match=wanted):
        PrivateKey.new()
