"""No output of a command replaces an input, or a file of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import files
from holdfast.cli import main
from holdfast.errors import FileError
from tests.helpers.data.bundles import write_bundle
from tests.helpers.data.foreign import contract
from tests.helpers.web import logs


def held(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder, capsys, *line):
    """Run a command that should say one sentence, and leave every file as it was."""
    before = held(folder)
    assert main([str(word) for word in line]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert held(folder) == before
    return said


def test_the_rule(tmp_path):
    data, page = tmp_path / "data.json", tmp_path / "page.HTML"
    for path in (data, page):
        path.write_text("{}")
    (tmp_path / "link.json").symlink_to(data)
    files.require_output(data, (".json",), [page, tmp_path / "missing", tmp_path / "\0"])
    files.require_output(page, (".html",))
    files.require_output(tmp_path / "new.anything", (".html",))
    for path, inputs, sentence in (
        (data, [data], "it is an input of this command"),
        (tmp_path / "link.json", [data], "it is an input of this command"),
        (page, [], "a file that is replaced should end in .json"),
    ):
        with pytest.raises(FileError, match=sentence):
            files.require_output(path, (".json",), inputs)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    files.require_output(tmp_path / "new" / "folder" / "new.json", (".json",))
    assert not (tmp_path / "new").exists()
    for path, sentence in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "new.json", "file is no folder"),
        (tmp_path / ("n" * 300), "File name too long"),
        (Path("/proc/x/y.yaml"), "in /proc: No such file or directory"),
    ):
        with pytest.raises(FileError, match=sentence):
            files.require_output(path, (".json",))


def test_identify_replaces_no_log_and_no_folder(tmp_path, capsys):
    motion = tmp_path / "motion.csv"
    motion.write_text("")
    line = ("identify", "--log", motion, "--task", "DriveCircle-v0", "--out")
    assert "an input" in refused(tmp_path, capsys, *line, motion)
    assert "it is a folder" in refused(tmp_path, capsys, *line, tmp_path)
    (tmp_path / "profile.html").mkdir()
    assert "profile.html: cannot" in refused(tmp_path, capsys, *line, tmp_path / "profile.yaml")


def test_a_log_is_replaced_by_no_page_and_no_list(tmp_path, capsys):
    logs.record(tmp_path / "a").close()
    log = tmp_path / "a" / "a_0.mcap"
    assert "should end in .html" in refused(tmp_path, capsys, "show", tmp_path / "a", "--out", log)
    assert "an input" in refused(tmp_path, capsys, "show", log, "--out", log)
    for option in ("--json-out", "--parquet"):
        assert "should end in" in refused(tmp_path, capsys, "logs", tmp_path, option, log)
    for _ in range(2):  # a page and a list may be written again
        assert main(["show", str(log), "--out", str(tmp_path / "a.html")]) == 0
        assert main(["logs", str(tmp_path), "--json-out", str(tmp_path / "a.jsonl")]) == 0


def test_adopt_and_export_replace_no_input(tmp_path, capsys):
    policy, file = write_bundle(tmp_path / "p.onnx"), contract(tmp_path)
    line = ("adopt", policy, "--contract", file, "--out")
    assert "an input" in refused(tmp_path, capsys, *line, policy)
    assert "an input" in refused(tmp_path, capsys, *line, file)
    source = tmp_path / "checkpoint.safetensors"
    source.write_bytes(b"a training")
    assert "an input" in refused(
        tmp_path, capsys, "export", "--checkpoint", source, "--out", source
    )
    assert ".onnx" in refused(tmp_path, capsys, "export", "--checkpoint", source, "--out", file)
    assert "an input" in refused(
        tmp_path, capsys, "gate", policy, "--log", tmp_path, "--json-out", policy
    )


def test_receipts_replace_neither_the_robot_s_file_nor_the_journal(tmp_path, capsys):
    config = tmp_path / "robot.yaml"
    config.write_text("extends: drive\nregistry:\n  folder: registry\n  hardware_id: drive-7\n")
    policy = write_bundle(tmp_path / "p.onnx")
    assert main(["promote", str(policy), "--config", str(config), "--anyway", "a test"]) == 0
    capsys.readouterr()
    (entry, *_) = sorted((tmp_path / "registry" / "journal").iterdir())
    for path in (config, entry):
        said = refused(tmp_path, capsys, "receipts", "--config", config, "--json-out", path)
        assert "an input" in said
