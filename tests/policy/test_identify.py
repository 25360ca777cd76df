"""Parameters of a twin are found in its motion, and what the motion does not tell is not."""

import dataclasses

import numpy as np
import pytest
import yaml

from holdfast import cli
from holdfast.errors import ConfigError, LogError
from holdfast.log import reader
from holdfast.log.writer import Recorder
from holdfast.policy.identification.certainty import information
from holdfast.policy.identification.compare import Comparison
from holdfast.policy.identification.csv_file import from_csv
from holdfast.policy.identification.fit import Fit, drop, select
from holdfast.policy.identification.free import chosen, strongest
from holdfast.policy.identification.identify import identify
from holdfast.policy.identification.search import SearchSettings, Simulator, elsewhere
from holdfast.policy.identification.tracks import from_logs, pieces, require_motion
from holdfast.policy.identify import error_table, parameter_table, remarks, write
from holdfast.sim.batch.replay import Replay
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import registered
from tests.helpers.data.bundles import write_bundle
from tests.helpers.data.mended import forged
from tests.helpers.data.recordings import info, record_episode
from tests.helpers.robots.parameters import parameters
from tests.helpers.robots.recorded import recorded
from tests.helpers.robots.twins import running_twin

NOISE = {"position": 0.01, "heading": 0.01, "forward_speed": 0.02, "yaw_rate": 0.02}
WHEELS = "size:left_tyre+right_tyre"
QUICK = SearchSettings(candidates=16, generations=8, search_s=25.0)


def by_name(result):
    return {each.free.name: each for each in result.found}


def run(motion, *words, signals=(), settings=QUICK, first_s=None):
    return identify(motion, words, signals, "known", first_s, settings)


def under_way(motion):
    """Return motion of which the first second is not compared."""
    tracks = [dataclasses.replace(track, at_rest=False) for track in motion.tracks]
    return dataclasses.replace(motion, tracks=tuple(tracks))


@pytest.fixture(scope="module")
def heavy():
    """A minute of a robot that is heavier and slips more, whose wheels are larger."""
    gap = {
        "size": {"left_tyre": 1.1, "right_tyre": 1.1, "caster": 1.2667},
        "mass": 1.3,
        "friction": {"left_tyre": 0.6, "right_tyre": 0.6},
        "gain": {"left_motor": 0.95},
        "delay": 3,
        "noise": NOISE,
    }
    return recorded("DriveCircle-v0", gap)


@pytest.fixture(scope="module")
def found(heavy):
    return run(heavy, WHEELS, "mass", "friction", "gain:each", "delay")


def test_a_twin_is_simulated_to_the_last_bit():
    gap = {"mass": 1.3, "delay": 2, "friction": {"left_tyre": 0.5}}
    motion = recorded("DriveCircle-v0", gap, episodes=2, steps=60)
    actions = np.stack([track.actions for track in motion.tracks])
    heading = np.full((2, 61), np.nan)
    heading[:, 0] = [track.signals["heading"][0, 0] for track in motion.tracks]
    replay = Replay(motion.task, parameters(**gap), actions, heading, {"yaw_rate": 1}, 2)
    signals, lost = replay.run([parameters(), parameters(**gap)])
    replay.close()
    measured = np.stack([track.signals["yaw_rate"] for track in motion.tracks])
    np.testing.assert_allclose(signals["yaw_rate"][1], measured, atol=1e-6)
    assert np.abs(signals["yaw_rate"][0] - measured).max() > 0.1
    assert not lost.any()


def test_the_parameters_of_a_twin_are_found(found):
    numbers = by_name(found)
    assert numbers[WHEELS].value == pytest.approx(1.1, abs=0.02)
    assert numbers["mass"].value == pytest.approx(1.3, abs=0.08)
    assert numbers["friction"].value == pytest.approx(0.6, abs=0.04)
    assert numbers["gain:left_motor"].value == pytest.approx(0.95, abs=0.01)
    assert numbers["gain:right_motor"].value == pytest.approx(1.0, abs=0.01)
    assert numbers["delay"].value == 3.0
    assert numbers["delay"].spread == 0.0
    assert all(each.known and not each.at for each in found.found)
    assert 0.0 < numbers["mass"].spread < 0.1


def test_the_noise_of_the_sensors_is_found(found):
    assert found.noise["position"] == pytest.approx(0.01, rel=0.2)
    assert found.noise["forward_speed"] == pytest.approx(0.02, rel=0.3)


def test_the_drift_of_a_reckoned_pose_is_assumed_and_told(tmp_path, found):
    """A robot's own log cannot tell it, and a profile without it would train for none."""
    motion = recorded("DriveCircle-v0", {"pose": "reckoned", "noise": NOISE}, episodes=2)
    reckoned = identify(motion, ("gain",), (), "reckoned", None, QUICK)
    out = tmp_path / "profile.yaml"
    write(out, motion, reckoned, QUICK)
    profile = catalogue.load_profile(out)
    drift = {name: amount.middle for name, amount in profile.drift.by_target.items()}
    assert drift == pytest.approx({"position": 0.01, "heading": 0.01})
    assert "# drift of heading: assumed, 0.01 +- 0.005 for each square root" in out.read_text()
    known = [*remarks(found), *found.profile.to_plain()]
    assert not any("drift" in each for each in known)


def test_predictions_on_motion_that_was_not_fitted_are_better(found):
    assert found.fresh
    for horizon in (1.0, 5.0):
        for name in ("position", "heading", "yaw_rate"):
            assert found.after[horizon][name] < 0.5 * found.before[horizon][name]
    assert found.after[1.0]["position"] < 0.05


def test_a_profile_is_read_as_a_gap_and_as_a_randomisation(found, heavy, tmp_path):
    out = tmp_path / "profile.yaml"
    write(out, heavy, found, QUICK)
    profile = catalogue.load(out)
    assert profile == found.profile
    registered("DriveCircle-v0").batch(2, 0, randomise=profile).close()
    gap = catalogue.load_gap(out)
    assert gap.delay.by_target["command"].middle == 3.0
    page = out.with_suffix(".html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert 'src="' not in page
    assert parameter_table(found)[1][0] == WHEELS
    assert [row[0] for row in error_table(found)[1:3]] == ["position", "heading"]


def test_what_the_motion_does_not_tell_is_said_and_left_out():
    """A robot that creeps along at one speed shows its gain, but not its mass and friction."""
    creep = {"episodes": 2, "share": 0.15, "every": 10_000, "jitter": 0.0}
    motion = under_way(recorded("DriveCircle-v0", {"gain": 0.9, "noise": NOISE}, **creep))
    noisy = ("position", "heading", "forward_speed", "yaw_rate")
    result = run(motion, "mass", "friction", "gain", signals=noisy)
    numbers = by_name(result)
    assert not numbers["mass"].known
    assert not numbers["friction"].known
    assert numbers["gain"].known
    assert numbers["gain"].value == pytest.approx(0.9, abs=0.02)
    assert set(result.profile.to_plain()) == {"gain", "noise"}
    said = " ".join(remarks(result))
    assert "mass: not identifiable" in said
    assert "friction: not identifiable" in said


def test_two_that_do_the_same_are_not_told_apart():
    """A factor on both motors' commands, and one on each, are one factor."""
    motion = recorded("DriveCircle-v0", {"gain": 0.9, "noise": NOISE}, share=0.3, episodes=3)
    result = run(motion, "gain", "gain:left_motor+right_motor")
    assert not any(each.known for each in result.found)
    assert all("-0.99" in each.with_ or "-1.00" in each.with_ for each in result.found)


def test_a_delay_is_not_identifiable_where_commands_do_not_change():
    motion = recorded("DriveCircle-v0", {"noise": NOISE}, share=0.5, every=10_000, jitter=0.0)
    result = run(under_way(motion), "delay")
    (delay,) = result.found
    assert not delay.known
    assert "delay" not in result.profile.to_plain()


def test_a_number_at_its_bound_is_said():
    motion = recorded("DriveCircle-v0", {"gain": 0.8, "noise": NOISE}, share=0.3, episodes=3)
    result = run(motion, "gain=0.9..1.2")
    assert by_name(result)["gain"].at == "lower"
    assert "at its lower bound, 0.9; the truth may lie beyond" in " ".join(remarks(result))
    least = dataclasses.replace(by_name(result)["gain"].free, kind="friction_loss", low=0.0)
    found = dataclasses.replace(by_name(result)["gain"], free=least)
    (said,) = remarks(dataclasses.replace(result, found=(found,)))
    assert said.endswith("at its lower bound, 0, beyond which there is none")
    assert "predictions became worse" not in " ".join(remarks(result))
    worse = {**result.after, 1.0: result.after[1.0] | {"heading": 9.0}}
    doubted = " ".join(remarks(dataclasses.replace(result, before=result.after, after=worse)))
    assert "predictions became worse, of " in doubted
    assert "heading over 1 s" in doubted
    assert "over one period" not in doubted


def test_elsewhere_is_the_best_value_of_one_number_over_its_whole_range():
    gap = {"friction": {"left_tyre": 0.6, "right_tyre": 0.6}, "noise": NOISE}
    motion = recorded("DriveCircle-v0", gap, episodes=4, steps=100)
    free = chosen(("mass", "friction"), motion.task, {"position": 2, "heading": 1}, "known")
    cut = pieces(motion.tracks, 0.05, None)
    names = {"position": 2, "heading": 1, "yaw_rate": 1}
    simulator = Simulator(free, Comparison(motion.task, cut, names), "known")
    grips, true = (np.array([free[0].place(1.0), free[1].place(value)]) for value in (2.3, 0.6))
    part = Simulator(free, Comparison(motion.task, cut[:1], names), "known")
    found = elsewhere(part, simulator, grips, np.array([0, 1]))
    assert found[0] == grips[0]
    assert free[1].value(found[1]) == pytest.approx(0.6, rel=0.1)
    assert elsewhere(part, simulator, grips, np.array([0]))[1] == grips[1]
    assert elsewhere(part, simulator, true, np.array([0, 1])) is None
    part.close()
    simulator.close()


def test_a_weak_number_moves_only_where_it_predicts_better_and_stays_only_then():
    wheels = "left_wheel+right_wheel"
    gap = {"gain": 0.95, "track": dict.fromkeys(wheels.split("+"), 1.1), "noise": NOISE}
    motion = recorded("DriveCircle-v0", gap, share=0.3, episodes=6, steps=100)
    names = {"position": 2, "heading": 1}
    words = ("gain", f"track:{wheels}", "bias:heading", "armature")
    free = chosen(words, motion.task, names, "known")
    start = np.array([each.place(each.nominal) for each in free])
    cut = pieces(motion.tracks, 0.05, None)
    fitted, checked = (
        Simulator(free, Comparison(motion.task, part, names), "known")
        for part in (cut[::2], cut[1::2])
    )
    fit, said = Fit(fitted, start), []
    moving, moved = select(fit, checked, [0], 3.0, said.append)
    assert moving == [0, 1]
    assert free[1].value(fit.place[1]) == pytest.approx(1.1, abs=0.02)
    np.testing.assert_array_equal(fit.place[2:], start[2:])
    assert len(said) == 1
    assert moved[0] > 0.0
    fit.refine(np.array([0, 1, 3]), 6)  # as where the numbers were named
    scale = fit.scale
    assert drop(fit, [0, 1], [1], said.append)[0] == [0, 1]
    assert fit.scale is scale  # what stays leaves no trace
    kept, _ = drop(fit, [0, 1, 3], [1, 3], said.append)
    assert kept == [0, 1]
    assert free[1].value(fit.place[1]) == pytest.approx(1.1, abs=0.02)
    assert fit.place[3] == start[3]
    assert said[1:] == ["drops armature: its nominal value explains the motion as well"]
    fitted.close()
    checked.close()


def test_a_signal_that_nothing_explains_is_said(heavy):
    speeds = [{"forward_speed": 100.0 * track.signals["forward_speed"]} for track in heavy.tracks]
    wrong = [
        dataclasses.replace(track, signals={**track.signals, **speed})
        for track, speed in zip(heavy.tracks, speeds, strict=True)
    ]
    said = remarks(run(dataclasses.replace(heavy, tracks=tuple(wrong)), "mass"))
    told = [text for text in said if "nothing that was searched for explains it" in text]
    assert [text.partition(":")[0] for text in told] == ["forward_speed"]
    assert not any("explains it" in text for text in remarks(run(heavy, "mass")))


def test_slopes_of_roughness_alone_are_no_information():
    rng = np.random.default_rng(0)
    true = np.outer(rng.standard_normal(4000), [1.0, 0.0])
    one, other = (true + rng.standard_normal((4000, 2)) for _ in range(2))
    found = information(one, other)
    assert found[0, 0] == pytest.approx(4000, rel=0.1)
    assert found[1, 1] < 0.1 * (one.T @ one)[1, 1]
    assert np.linalg.eigvalsh(found).min() >= -1e-9


def test_a_push_is_left_out():
    motion = recorded("DriveCircle-v0", {"gain": 0.9, "noise": NOISE}, share=0.3, episodes=4)
    signals = {name: values.copy() for name, values in motion.tracks[0].signals.items()}
    signals["position"][60:] += 1.0
    pushed = dataclasses.replace(motion.tracks[0], signals=signals)
    result = run(dataclasses.replace(motion, tracks=(pushed, *motion.tracks[1:])), "gain")
    assert by_name(result)["gain"].value == pytest.approx(0.9, abs=0.01)
    assert result.windows_left_out[0] >= 1


def test_all_that_applies_is_tried_where_nothing_is_named():
    task = registered("DriveCircle-v0").make()
    names = [f.name for f in chosen((), task, {"forward_speed": 1, "yaw_rate": 1}, "known")]
    assert names[:4] == ["delay", "gain:left_motor", "gain:right_motor", WHEELS]
    assert "track:left_wheel+right_wheel" in names
    with_pose = {"bias:heading", "slope:x", "slope:y"}
    assert not with_pose & {*names}
    posed = chosen((), task, {"position": 2, "heading": 1}, "known")
    assert with_pose <= {f.name for f in posed}
    assert {"slope:x", "slope:y"} <= {posed[i].name for i in strongest(posed)}
    assert {"mass", "friction", "force", "damping", "armature", "friction_loss"} <= {*names}
    point = registered("PointCircle-v0").make()
    without = [f.name for f in chosen((), point, {"position": 2}, "known")]
    assert "friction" not in without


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("masss", "did you mean"),
        ("size", "should name geoms"),
        ("size:left_tire", "there is no geom 'left_tire'"),
        ("mass=2..1", "LOW below HIGH"),
        ("mass=0..1", "more than 0"),
        ("mass=a..b", "should be numbers"),
        ("delay=0.5..3", "whole"),
        ("mass:", "should be written"),
        ("noise:position", "unknown noise"),
        ("bias:scan", "there is no signal 'scan'"),
        ("size:floor", "which has no size of its own"),
    ],
)
def test_a_word_that_names_nothing_is_refused(word, said):
    task = registered("DriveCircle-v0").make()
    with pytest.raises(ConfigError, match=said):
        chosen((word,), task, {"position": 2}, "known")


def test_a_target_that_is_named_twice_is_refused():
    task = registered("DriveCircle-v0").make()
    with pytest.raises(ConfigError, match="named twice"):
        chosen(("gain:each", "gain:left_motor"), task, {"position": 2}, "known")


def test_motion_is_needed():
    still = recorded("DriveCircle-v0", {"noise": NOISE}, share=0.0, episodes=2)
    with pytest.raises(LogError, match="should hold motion"):
        require_motion(still, "run")


def test_a_track_is_cut_to_pieces_that_begin_early():
    motion = recorded("DriveCircle-v0", {}, episodes=1, steps=600)
    cut = pieces(motion.tracks, 0.05, None)
    assert [(len(piece), piece.first) for piece in cut] == [(250, 0), (270, 21), (120, 21)]
    compared = sum(len(piece) + 1 - piece.first for piece in cut)
    assert compared == 601
    assert [len(piece) for piece in pieces(motion.tracks, 0.05, 2.0)] == [40]


def test_windows_cover_what_is_compared():
    motion = recorded("DriveCircle-v0", {}, episodes=1, steps=250)
    comparison = Comparison(motion.task, pieces(motion.tracks, 0.05, None), {"position": 2})
    rows = comparison.windows.rows[comparison.windows.valid["position"][..., 0]]
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() == 0


# Through the programs.


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A run of a twin that is heavier and late, as any user would have it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "gap.yaml").write_text("gain: 0.9\ndelay: 2\nnoise: {position: 0.005}\n")
    bundle = write_bundle(folder / "policy.onnx", action=(0.3, 0.5), log_std=-1.0)
    with running_twin("--gap", folder / "gap.yaml", "--realtime-factor", 0) as twin:
        line = ["deploy", "--robot", twin.address, "--policy", str(bundle), "--explore"]
        assert cli.main([*line, "--episodes", "4", "--out", str(folder / "run")]) == 0
    return folder / "run"


def identified(*options):
    quick = ("--candidates", "16", "--generations", "6", "--search-s", "20")
    return cli.main(["identify", *map(str, options), *quick])


def test_a_log_of_a_run_is_read(log, tmp_path, capsys):
    out = tmp_path / "profile.yaml"
    assert identified("--log", log, "--parameters", "gain", "delay", "--out", out) == 0
    said = capsys.readouterr().out
    assert "identified" in said
    data = yaml.safe_load(out.read_text())
    assert data["gain"]["all"]["mean"] == pytest.approx(0.9, abs=0.01)
    assert data["delay"]["command"] == 2
    assert out.read_text().startswith("# Identified for robot drive by holdfast identify, seed 0")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threads", "-1"), "threads should be at least 0"),
        (("--first-s", "0"), "first-s should be"),
        (("--signals", "scan"), "'scan' should be in the recording"),
        (("--candidates", "2"), "candidates should be"),
        (("--task", "PointCircle-v0"), "was trained with task"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(log, tmp_path, capsys, options, said):
    out = tmp_path / "profile.yaml"
    assert cli.main(["identify", "--log", str(log), "--out", str(out), *options]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_what_not_every_log_has_is_told(tmp_path):
    sources = {"robot": {n: size for n, size in info().sources["robot"].items() if n != "tilt"}}
    for name, changes in (("whole", {}), ("fewer", {"sources": sources})):
        recorder = Recorder(tmp_path / name, info(run=name, **changes))
        record_episode(recorder, 0, 60, code="interrupted")
        recorder.close()
    assert from_logs([tmp_path / "whole"], None, any_robot=False).left_out == ()
    (said,) = from_logs([tmp_path / "whole", tmp_path / "fewer"], None, any_robot=False).left_out
    assert said == "signals that not every log has: tilt"
    log, gap = reader.read(tmp_path / "whole"), tmp_path / "gap.mcap"
    forged(log, 60, gap, sequence=int(log.steps["sequence"][-1]) + 2)
    (said,) = from_logs([gap], None, any_robot=False).left_out
    assert said == f"2 periods of {gap} that are not logged"


def test_one_run_is_given_once(log, tmp_path, capsys):
    assert identified("--log", log, log, "--out", tmp_path / "profile.yaml") == 1
    assert "are the same run" in capsys.readouterr().err


# CSV files.


def as_csv(path, motion, sparse=False):
    lines = ["time,episode,command.forward_speed,command.yaw_rate,position.x,position.y,heading"]
    for number, track in enumerate(motion.tracks):
        for k in range(len(track) + 1):
            command = [f"{v:.6f}" for v in track.actions[k]] if k < len(track) else ["", ""]
            pose = [*track.signals["position"][k], *track.signals["heading"][k]]
            read = not sparse or k in (0, len(track))
            cells = [f"{v:.6f}" for v in pose] if read else [""] * 3
            lines.append(",".join([f"{0.05 * k:.2f}", str(number), *command, *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("sparse", [False, True])
def test_a_csv_file_is_read(tmp_path, sparse):
    motion = recorded("DriveCircle-v0", {"gain": 0.9}, share=0.3, episodes=3, steps=200)
    path = as_csv(tmp_path / "motion.csv", motion, sparse)
    read = from_csv([path], motion.task)
    np.testing.assert_allclose(read.tracks[1].actions, motion.tracks[1].actions, atol=1e-5)
    assert read.tracks[0].signals["position"].shape == (201, 2)
    poses = np.isfinite(read.tracks[0].signals["position"][:, 0]).sum()
    assert poses == (2 if sparse else 201)
    result = run(read, "gain:left_motor", "gain:right_motor")
    assert by_name(result)["gain:left_motor"].value == pytest.approx(0.9, abs=0.01)
    assert by_name(result)["gain:right_motor"].value == pytest.approx(0.9, abs=0.01)


def test_a_wide_track_is_told_from_long_ways_by_the_ends_of_motions(tmp_path):
    """No gains of the two wheels would do the same, and a marker that is mounted askew hides it."""
    wheels = "left_wheel+right_wheel"
    gap = {"gain": 1.03, "track": dict.fromkeys(wheels.split("+"), 1.06), "bias": {"heading": 0.03}}
    motion = recorded("DriveCircle-v0", gap, share=0.3, episodes=8, steps=120, every=60)
    read = from_csv([as_csv(tmp_path / "motion.csv", motion, sparse=True)], motion.task)
    few = SearchSettings(candidates=12, generations=4, search_s=12.0)
    result = run(read, "gain", f"track:{wheels}", "bias:heading", settings=few)
    numbers = by_name(result)
    assert numbers["gain"].value == pytest.approx(1.03, abs=0.005)
    assert numbers[f"track:{wheels}"].value == pytest.approx(1.06, abs=0.01)
    assert numbers["bias:heading"].value == pytest.approx(0.03, abs=0.005)


HEAD = "time,command.forward_speed,command.yaw_rate,position.x,position.y\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "should have a line of column names"),
        ("a,b\n1,2\n", "should have a column time"),
        ("time,position.x\n0,1\n", "should have a column command.forward_speed"),
        (HEAD + "0,0,0,1\n", "line 2 should have 5 cells, received 4"),
        (HEAD + "0,0,0,1,x\n", "line 2: position.y should be a number, received x"),
        (HEAD + "0,0,0,1,nan\n", "should be a number, received nan"),
        (HEAD + "1,0,0,1,1\n0,0,0,1,1\n", "line 3: time should rise"),
        (HEAD + "0,0,0,1,1\n0.1,0,0,1,1\n", "should hold an episode of 1 s"),
        (HEAD + "0,0,0,1,1\n1e9,0,0,1,1\n", "line 3: time should be in seconds, within 50000 s"),
        (HEAD + "0,0,0,1,1\n1e300,0,0,1,1\n", "received 1e.300 after 0"),
        (HEAD + "0,0,0,1,1\n2,0,0,1e300,1\n", "line 3: position.x should be at most 1e.09 in"),
        (HEAD + "0,-2e9,0,1,1\n2,0,0,1,1\n", "line 2: command.forward_speed should be at most"),
        (HEAD.replace("n.y", "n.z") + "0,0,0,1,1\n2,0,0,1,1\n", "position lacks one of its"),
        (HEAD.replace("position.y", "time") + "0,0,0,1,1\n", "a name of its own"),
        (HEAD.replace("position.y", "x y") + "0,0,0,1,1\n", "a column should be time"),
        (HEAD.replace("position.y", "hedding") + "0,0,0,1,1\n", "hedding; did you mean 'heading'"),
        (HEAD.split(",position", maxsplit=1)[0] + "\n0,0,0\n", "should have a column of a signal"),
    ],
)
def test_a_csv_file_that_cannot_be_is_refused(tmp_path, text, said):
    path = tmp_path / "motion.csv"
    path.write_text(text)
    with pytest.raises(LogError, match=said):
        from_csv([path], registered("DriveCircle-v0").make())


def test_a_csv_file_needs_a_task(tmp_path, capsys):
    path = tmp_path / "motion.csv"
    path.write_text(HEAD)
    assert cli.main(["identify", "--log", str(path)]) == 1
    assert "task should be given with CSV files" in capsys.readouterr().err


def test_short_episodes_of_a_csv_file_are_counted(tmp_path):
    path = tmp_path / "motion.csv"
    rows = [(0.0, 0), (2.0, 0), (3.0, 1), (3.1, 1), (4.0, 2)]
    head = HEAD.replace("time,", "time,episode,")
    path.write_text(head + "".join(f"{time},{episode},0,0,1,1\n" for time, episode in rows))
    read = from_csv([path], registered("DriveCircle-v0").make())
    assert len(read.tracks) == 1
    assert read.left_out == ("2 episodes shorter than 1 s",)
