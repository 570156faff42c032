import json
import os
import signal

import pytest

import needs
from forerun import ModelFileError, bench, compare, methods, report
from forerun.bench import BenchOptions, BenchPrompt
from forerun.cli import run
from forerun.compare import PLAIN, Combination, Comparison, grid
from forerun.methods import Method
from forerun.types import Sampling

PROMPTS = [
    BenchPrompt("a/1", "code", "one"),
    BenchPrompt("a/2", "code", "two"),
    BenchPrompt("b/1", "qa", "three"),
]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(vars(entry)) + "\n" for entry in PROMPTS))
    return path


@pytest.fixture
def compared(fake, model_file, prompts, tmp_path, capfd):
    """Runs `forerun compare`; returns (exit code, stdout, stderr, lines of runs.jsonl)."""

    def call(*arguments, out="out"):
        words = ["compare", model_file, "--prompts", prompts, "--out", tmp_path / out, "--tokens", 26, *arguments]
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        path = tmp_path / out / "runs.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return code, captured.out, captured.err, lines

    return call


def comparison(model_file, folder, **options):
    return Comparison(model_file, PROMPTS, BenchOptions(tokens=5), folder, **options)


def test_plain_decoding_comes_first_and_every_run_is_a_line(compared, fake, tmp_path):
    code, out, _, lines = compared("--draft", "ngram,ngram+recycle")
    assert code == 0
    assert [engine.draft for engine in fake.made] == ["none", "ngram", "ngram+recycle"]
    assert [(line["combination"]["draft"], line["id"]) for line in lines] == [
        (draft, name) for draft in ("none", "ngram", "ngram+recycle") for name in ("a/1", "a/2", "b/1")
    ]
    line = lines[3]
    assert line["machine"] == {"cpu": "Abacus", "threads": 2, "isa": "scalar", "device": "cpu"}
    assert line["settings"]["tokens"] == 26
    assert (line["plain_tps"], line["spec_tps"], line["tau"]) == (26.0, 52.0, 2.0)
    assert line["tps_spread"] == {"min": 52.0, "median": 52.0, "max": 52.0, "repeats": 1}
    assert line["identical"] is True
    assert "2.00x" in out
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| ngram+recycle | 3 | 26.0 | 52.0 | 2.00x | 2.00x a/1 | 2.00 | yes |" in summary
    assert "| ngram | 2.00x | 2.00x | 2.00x |" in summary


def test_ratios_are_per_prompt_and_the_slowest_prompt_is_named(fake, model_file, tmp_path, monkeypatch):
    # Seconds of a run by its place: plain 1, 2, 4; ngram 0.5, 4, 1: ratios 2, 0.5, 4.
    seconds = iter([9, 1, 2, 4, 9, 0.5, 4, 1])
    original = fake.generate

    def generate(self, *arguments, **options):
        result = original(self, *arguments, **options)
        result["stats"]["decode_seconds"] = next(seconds)
        return result

    monkeypatch.setattr(fake, "generate", generate)
    made = comparison(model_file, tmp_path / "out")
    made.run(grid(["ngram"]))
    entry = compare.summarise(made)[1]
    assert entry["groups"]["code"]["ratio"] == pytest.approx(1.0)
    assert entry["groups"]["qa"]["ratio"] == pytest.approx(4.0)
    assert entry["groups"]["overall"]["ratio"] == pytest.approx(4 ** (1 / 3))
    assert entry["groups"]["overall"]["slowest_ratio"] == pytest.approx(0.5)
    assert entry["slowest_prompt"] == "a/2"


def test_repeats_are_passes_with_engines_of_their_own_and_give_the_median(fake, model_file, tmp_path, monkeypatch):
    speeds = iter([1.0, 4.0, 2.0])
    original = fake.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self.seconds = 1.0 if self.draft == "none" else next(speeds)

    generate = fake.generate

    def timed(self, *arguments, **options):
        result = generate(self, *arguments, **options)
        result["stats"]["decode_seconds"] = self.seconds
        return result

    monkeypatch.setattr(fake, "__init__", init)
    monkeypatch.setattr(fake, "generate", timed)
    made = comparison(model_file, tmp_path / "out", repeats=3)
    made.run(grid(["ngram"]))
    assert [engine.draft for engine in fake.made] == ["none"] * 3 + ["ngram"] * 3
    row = made.rows()[Combination("ngram")][0]
    assert row["spec_tps"] == pytest.approx(2.5)
    assert row["tps_spread"] == {"min": 1.25, "median": 2.5, "max": 5.0, "repeats": 3}


def test_paired_runs_answer_plainly_beside_every_combination(fake, model_file, tmp_path, monkeypatch):
    order = []
    original = fake.generate

    def generate(self, *arguments, **options):
        result = original(self, *arguments, **options)
        order.append(self.draft)
        # The machine is slower in every engine's run than in the one before it.
        result["stats"]["decode_seconds"] *= fake.made.index(self) + 1
        return result

    monkeypatch.setattr(fake, "generate", generate)
    made = comparison(model_file, tmp_path / "out", paired=True)
    made.run(grid(["ngram", "recycle"]))
    first, second, third = order[6:8], order[8:10], order[10:12]  # after four plain runs and two warm-ups
    assert set(first) == {"none", "ngram"}
    assert first == second[::-1] == third  # who goes first alternates
    row = made.rows()[Combination("recycle")][0]
    assert row["plain_tps"] == pytest.approx(1.0)  # 5 tokens in 5 times a second: the engine beside it
    assert [engine.draft for engine in fake.made] == ["none", "ngram", "none", "recycle", "none"]
    assert all(len(engine.calls) == 1 + len(PROMPTS) for engine in fake.made)


def test_a_text_that_must_not_differ_fails_the_command(compared, fake, monkeypatch):
    original = fake.generate

    def generate(self, *arguments, **options):
        result = original(self, *arguments, **options)
        if self.draft == "ngram" and options["max_tokens"] == 26:
            result["tokens"][-1] += 1
        return result

    monkeypatch.setattr(fake, "generate", generate)
    code, out, err, lines = compared("--draft", "ngram,recycle")
    assert code == 1
    assert "NO, 3 differ" in out
    assert "ngram: a/1" in err and "recycle" not in err
    assert [line["identical"] for line in lines] == [True] * 3 + [False] * 3 + [True] * 3


def test_what_the_engine_refuses_is_left_out_with_its_reason(compared, fake, monkeypatch, tmp_path):
    original = fake.__init__

    def init(self, target, draft="auto", **options):
        if draft == "suffix":
            raise ModelFileError("bad.gguf: malformed")
        if draft == "recycle":
            raise ValueError("verifier 'rejection' needs draft probabilities")
        original(self, target, draft=draft, **options)

    monkeypatch.setattr(fake, "__init__", init)
    code, out, _, lines = compared("--draft", "suffix,recycle,ngram")
    assert code == 0
    assert {line["combination"]["draft"] for line in lines} == {"none", "ngram"}
    assert "needs draft" in out
    assert "bad.gguf: malformed" in out
    assert "| recycle | verifier 'rejection' needs draft probabilities |" in (tmp_path / "out/summary.md").read_text()


def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(compared, fake, monkeypatch, tmp_path):
    generate, runs, pressed = fake.generate, tmp_path / "out" / "runs.jsonl", []

    def press_after_two_runs(*arguments, **options):
        if not pressed and runs.exists() and runs.read_text().count("\n") == 2:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return generate(*arguments, **options)

    fake.step_seconds = 0.01
    monkeypatch.setattr(fake, "generate", press_after_two_runs)
    code, _, err, first = compared("--draft", "ngram")
    assert code == 130
    assert "--resume" in err
    assert len(first) == 2
    fake.step_seconds = 0.0
    assert compared("--draft", "ngram")[0] == 2  # not over the old runs by accident
    code, _, _, lines = compared("--draft", "ngram", "--resume")
    assert code == 0
    assert lines[: len(first)] == first
    assert len(lines) == len({(line["combination"]["draft"], line["id"]) for line in lines}) == 6
    made = len(fake.made)
    assert compared("--draft", "ngram", "--resume")[3] == lines
    assert len(fake.made) == made  # nothing was left to run


def test_a_line_that_was_cut_off_is_run_again(compared, tmp_path):
    lines = compared("--draft", "ngram")[3]
    path = tmp_path / "out" / "runs.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    code, _, _, again = compared("--draft", "ngram", "--resume")
    assert code == 0
    assert again == lines


@pytest.mark.parametrize(
    ("change", "text"),
    [({"--tokens": "5"}, "settings"), ({"--threads": "1"}, "machine")],
)
def test_runs_of_other_settings_are_not_resumed(compared, change, text):
    compared("--draft", "ngram")
    code, _, err, _ = compared("--draft", "ngram", "--resume", *(word for pair in change.items() for word in pair))
    assert code == 2
    assert text in err


def test_a_damaged_file_is_not_resumed(compared, tmp_path):
    compared("--draft", "ngram")
    path = tmp_path / "out" / "runs.jsonl"
    path.write_text("{}\n" + path.read_text())
    code, _, err, _ = compared("--draft", "ngram", "--resume")
    assert code == 2
    assert "line 1" in err


def test_prompts_that_share_an_id_are_refused(model_file, fake, tmp_path):
    with pytest.raises(ValueError, match="a/1"):
        Comparison(model_file, [PROMPTS[0], PROMPTS[0]], BenchOptions(), tmp_path / "out")


def test_the_grid_gives_each_combination_its_own_options():
    found = grid(["none", "ngram", "recycle"], budgets=[0, 8], method_options={"ngram.x": "1", "match.y": "2"})
    assert [(c.draft, c.budget) for c in found] == [
        (draft, budget) for draft in ("ngram", "recycle") for budget in (None, 0, 8)
    ]
    assert found[0].method_options == {"ngram.x": "1", "match.y": "2"}
    assert found[3].method_options == {"match.y": "2"}
    assert found[1].label == "ngram / 0 nodes"


def test_only_drafters_that_grow_by_a_policy_are_run_with_each():
    found = grid(["ngram", "ngram+model:a+b.gguf"], policies=["chain", "eagle2"])
    assert [(c.draft, c.policy) for c in found] == [
        ("ngram", "chain"),
        ("ngram+model:a+b.gguf", "chain"),
        ("ngram+model:a+b.gguf", "eagle2"),
    ]
    assert found[2].label == "ngram+model:a+b / eagle2"
    found = grid(["auto"], policies=["auto", "chain"], method_options={"suffix.places": "4", "head.x": "1"})
    assert [c.label for c in found] == ["auto", "auto / chain"]  # it may hold a head
    assert found[0].method_options == {"suffix.places": "4", "head.x": "1"}
    assert grid(["auto+ngram"], method_options={"ngram.places": "4"})[0].method_options == {"ngram.places": "4"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"drafts": ["ngam"]}, "unknown drafter 'ngam'"),
        ({"drafts": ["ngram"], "policies": ["bush"]}, "unknown policy 'bush'"),
        ({"drafts": ["ngram"], "verifiers": ["faith"]}, "unknown verifier 'faith'"),
        ({"drafts": ["ngram"], "method_options": {"recycle.x": "1"}}, "recycle.x"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(arguments, text):
    with pytest.raises(ValueError, match=text):
        grid(**arguments)


def test_only_lossless_methods_keep_the_text(monkeypatch):
    verifiers = [Method("match", "", "", True), Method("rejection", "", "", True), Method("typical", "", "", False)]
    monkeypatch.setattr(methods, "verifiers", lambda: verifiers)
    found = {
        (verify, heat): Combination("ngram", verify=verify).keeps_text(heat)
        for verify in ("match", "rejection", "typical")
        for heat in (0.0, 1.0)
    }
    kept = {key for key, keeps in found.items() if keeps}
    assert kept == {("match", 0.0), ("match", 1.0), ("rejection", 0.0)}


def test_acceptance_is_weighted_by_steps_and_ends_where_few_drafted():
    rows = [
        {"tried_by_depth": [10, 10, 4], "acceptance_by_depth": [0.5, 0.2, 0.5]},
        {"tried_by_depth": [30, 12], "acceptance_by_depth": [0.9, 0.0]},
    ]
    assert compare.acceptance_by_depth(rows) == pytest.approx([(5 + 27) / 40, 2 / 22])


def test_markdown_cells_cannot_break_the_table():
    table = report.Table("t", ["a", "b"], [["x|y", "two\nlines"]])
    assert "| x\\|y | two lines |" in table.markdown()


def test_plots_are_written_when_matplotlib_is_there(compared, tmp_path):
    needs.module("matplotlib")
    assert compared("--draft", "ngram,recycle", "--budgets", "0,4,8")[0] == 0
    for name in ("speed", "tau", "acceptance", "goodput"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
        assert "<svg" in (tmp_path / "out" / f"{name}.svg").read_text()


def test_without_matplotlib_the_figures_are_written_and_the_extra_is_named(compared, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    code, _, err, lines = compared("--draft", "ngram")
    assert code == 0
    assert "forerun[plot]" in err
    assert len(lines) == 6
    assert not (tmp_path / "out" / "speed.png").exists()


def test_the_first_combination_is_plain_decoding():
    assert PLAIN.label == "plain"
    assert Sampling().temperature == 0
    assert bench.geometric_mean([1, 4]) == pytest.approx(2)
