"""The command line: exit statuses that scripts can trust, one sentence on a user's mistake."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import __version__, cli, doctor, share
from holdfast.cli import COMMANDS, Command, main
from holdfast.errors import ConfigError

OUTCOMES = '''
"""A command with each outcome that a command can have."""

import time

from holdfast.errors import ContractError


def command(
    outcome: str = "fine",
    count: int = 1,
    names: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (3,),
) -> int | None:
    """Do what is asked.

    Args:
        outcome: which one.
        count: of nothing in particular.
        names: likewise.
        sizes: likewise.
    """
    if outcome == "lists":
        print(names, sizes)
    if outcome == "refused":
        raise ContractError("cost 'x': limit should be at least 0, received -1")
    if outcome == "missing":
        import not_installed_anywhere.part
    if outcome == "missing ours":
        import holdfast.no_such_module
    if outcome == "waits":
        print("waiting", flush=True)
        time.sleep(60)
    return 3 if outcome == "three" else None
'''


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    """Put a command called `outcomes` into the table."""
    (tmp_path / "outcomes.py").write_text("from __future__ import annotations\n" + OUTCOMES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(COMMANDS, "outcomes", Command("outcomes:command", "for tests", "train"))
    return tmp_path


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--outcome", "three"], 3)])
def test_a_command_decides_its_exit_status(outcomes, arguments, status):
    assert main(["outcomes", *arguments]) == status


def test_a_named_error_is_one_line_and_status_1(outcomes, capsys):
    assert main(["outcomes", "--outcome", "refused"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "holdfast: cost 'x': limit should be at least 0, received -1\n"


def test_a_missing_extra_is_named(outcomes, capsys):
    assert main(["outcomes", "--outcome", "missing"]) == 1
    assert capsys.readouterr().err == (
        "holdfast: outcomes needs the Python package 'not_installed_anywhere', "
        "which is not installed: "
        "pip install 'holdfast-robot[train]', or '.[train]' from a checkout\n"
    )


def test_what_only_some_robots_need_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cyclonedds", None)
    for name in [name for name in sys.modules if name.startswith("holdfast.robot.dds")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["deploy", "--robot", "dds:drive", "--policy", str(tmp_path / "p.onnx")]) == 1
    assert capsys.readouterr().err == (
        "holdfast: deploy needs the Python package 'cyclonedds', which is not installed: "
        "pip install 'holdfast-robot[dds]', or '.[dds]' from a checkout\n"
    )


def test_a_missing_module_of_our_own_is_a_bug_and_shown_as_one(outcomes):
    with pytest.raises(ModuleNotFoundError):
        main(["outcomes", "--outcome", "missing ours"])


@pytest.mark.parametrize("arguments", [["--count", "many"], ["--colour"], ["stray"]])
def test_wrong_options_are_status_2(outcomes, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(["outcomes", *arguments])
    assert ended.value.code == 2
    assert "outcomes --help" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--names"], ["--names", "--count", "2"], ["--sizes"]])
def test_a_list_that_is_given_has_something_in_it(outcomes, capsys, arguments):
    """`--demonstrations $LOGS` where the variable is empty would else train without any."""
    with pytest.raises(SystemExit) as ended:
        main(["outcomes", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"Error parsing {arguments[0]}: it should have one value at least" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["gate", "--log", "runs/a"],
            "--log: it should have one value at least, and CHILD a value of its own",
        ),
        (
            ["promote", "--config", "robot.yaml", "--limit", "5"],
            "--limit: it should have one value at least, and POLICY a value of its own",
        ),
    ],
)
def test_what_took_the_only_value_of_a_list_is_named(capsys, arguments, sentence):
    """The child of `gate` has no option, so without a child it takes the log."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.translate(str.maketrans("│", " ")).split())
    assert f"Error parsing {sentence}" in said


def test_lists_are_read_as_what_they_are_of(outcomes, capsys):
    assert main(["outcomes", "--outcome", "lists", "--sizes", "4", "5", "--names", "a"]) == 0
    assert capsys.readouterr().out == "('a',) (4, 5)\n"
    assert main(["outcomes", "--outcome", "lists"]) == 0
    assert capsys.readouterr().out == "() (3,)\n"


def test_ctrl_c_is_status_130(outcomes):
    program = (
        "import sys; from holdfast import cli; "
        "cli.COMMANDS['outcomes'] = cli.Command('outcomes:command', ''); "
        "sys.exit(cli.main(['outcomes', '--outcome', 'waits']))"
    )
    search = os.pathsep.join([str(outcomes), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "holdfast: interrupted\n")


def test_no_command_prints_the_help_and_is_status_2(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", cli.help_text() + "\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(capsys, flag):
    assert main([flag]) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in out
        assert command.summary in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"holdfast {__version__}\n"


def test_an_unknown_command_gets_a_suggestion(capsys):
    assert main(["docter"]) == 2
    assert capsys.readouterr().err == (
        "holdfast: unknown command 'docter'; did you mean 'doctor'?\n"
    )
    assert main(["zzz"]) == 2
    assert "commands are " in capsys.readouterr().err


def test_the_installed_program_runs_the_table():
    program = Path(sys.executable).parent / "holdfast"
    ended = subprocess.run([program, "zzz"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("holdfast: unknown command 'zzz'")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_every_option(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: holdfast {name}")
    assert COMMANDS[name].load().__doc__
    running = " ".join(out.translate(str.maketrans("│╭╮╰╯─", " " * 6)).split())
    unexplained = re.findall(r"--[\w-]+ [A-Z{}|.\[\] ]*(?=\((?:default|required))", running)
    assert unexplained == []


# doctor


def test_doctor_finds_this_install_sound(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for what in ("python", "cores", "numpy", "onnxruntime", "torch", "ROS 2", "Ray", "serial port"):
        assert what in out
    assert "The robot side works." in out


def test_doctor_runs_a_network():
    assert doctor.runtime() == doctor.Finding("ONNX Runtime", "runs")


def test_doctor_says_what_is_broken(monkeypatch, capsys):
    """A package whose installed version is too old: what a shared Python often brings."""
    wanted = {**doctor.requirements(""), "numpy": ">=9999.1"}
    monkeypatch.setattr(doctor, "requirements", lambda extra: {} if extra else wanted)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "1 broken" in out
    assert "pip install" in out


def test_doctor_names_what_training_lacks(monkeypatch, capsys):
    wanted = {"numpy": ">=1.24"}
    extra = {"torch": ">=1", "not-installed-anywhere": ">=1"}
    monkeypatch.setattr(doctor, "requirements", lambda name: extra if name else wanted)
    assert main(["doctor"]) == 0
    assert "training" in capsys.readouterr().out
    assert doctor.training().found == "missing: not-installed-anywhere"
    assert "pip install 'holdfast-robot[train]'" in doctor.training().advice


def test_doctor_reads_the_requirements_of_setup_py():
    base, train = doctor.requirements(""), doctor.requirements("train")
    assert base["numpy"] == ">=1.24"
    assert "torch" in train
    assert not set(base) & set(train)


@pytest.mark.parametrize(
    ("found", "wanted", "meets"),
    [
        ("1.2", ">=1.2.0", True),
        ("1.10.0", ">=1.9", True),
        ("1.9", ">=1.10", False),
        ("2.13.0+cpu", ">=2.9", True),
        ("3.5rc1", ">=3.5", True),
        ("4.0.0", "!=4.0.0,>=3.3", False),
        ("4.0.1", "!=4.0.0,>=3.3", True),
        ("80.1", "<80", False),
        ("5", "", True),
        ("", "", False),
        ("", ">=1", False),
    ],
)
def test_versions_are_compared_as_numbers(found, wanted, meets):
    assert doctor.satisfies(found, wanted) is meets


def test_the_share_folder_of_a_checkout_is_the_checkout():
    assert (share.folder() / "package.xml").is_file()
    assert (share.folder() / "launch").is_dir()


def test_an_incomplete_install_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(share, "__file__", str(tmp_path / "holdfast" / "share.py"))
    with pytest.raises(ConfigError, match="reinstall holdfast"):
        share.folder()


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_reader_that_ended_is_one_sentence(option):
    ours, theirs = os.pipe()
    os.close(ours)
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast", option],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(theirs)
    assert ended.stderr == "holdfast: the program that reads this output has ended\n"
    assert ended.returncode == 1


# The shell's completion.

COMPLETE = """
source "$1"; shift
complete -p holdfast > /dev/null || exit 3
COMP_WORDS=(holdfast "$@") COMP_CWORD=$#
function=$(complete -p holdfast | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function holdfast "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """Let bash complete words by the file that the command line writes."""
    file = tmp_path_factory.mktemp("shell") / "completion.bash"
    assert_writes([], file)

    def complete(*words: str) -> list[str]:
        ended = subprocess.run(
            ["bash", "-c", COMPLETE, "bash", str(file), *words],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stderr == ""
        return ended.stdout.split()

    return complete


def assert_writes(absent, file):
    program = f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
    program += "from holdfast.cli import main; sys.exit(main())"
    options = ["--tyro-write-completion", "bash", str(file)]
    subprocess.run([sys.executable, "-c", program, *options], check=True)


def test_the_shell_completes_commands(completion):
    assert set(completion("de")) == {"demo", "deploy"}
    assert set(COMMANDS) <= set(completion(""))


@pytest.mark.parametrize("name", ["train", "deploy", "replay"])
def test_the_shell_completes_a_commands_options(completion, name):
    options = completion(name, "--")
    assert {"train": "--resume", "deploy": "--robot", "replay": "--limits"}[name] in options
    assert ("--robot" in options) == (name == "deploy")


def test_a_robots_computer_completes_what_it_has(tmp_path):
    file = tmp_path / "completion.bash"
    assert_writes(["mujoco", "gymnasium", "onnx", "safetensors"], file)
    text = file.read_text()
    assert all(name in text for name in COMMANDS)
    assert "--episodes" in text
    assert "--resume" not in text


def test_a_completion_that_cannot_be_written_is_one_sentence(capsys):
    assert main(["--tyro-write-completion", "bash", "/nowhere/at/all"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "/nowhere/at" in line
