import json
import math

import pytest

import forerun
from forerun import bench
from forerun.cli import run


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [
        {"id": "a/1", "category": "code", "prompt": "one"},
        {"id": "a/2", "category": "code", "prompt": "two"},
        {"id": "b/1", "category": "qa", "prompt": "three"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_the_saved_figures_have_the_agreed_keys(fake, model_file, prompts, tmp_path, capfd):
    saved = tmp_path / "out.json"
    arguments = ["bench", model_file, "--draft", "ngram", "--prompts", prompts, "--tokens", 26]
    assert run([str(argument) for argument in [*arguments, "--json", saved]]) == 0
    assert "2.00x" in capfd.readouterr().out
    result = json.loads(saved.read_text())
    assert result["machine"] == {"cpu": "Abacus", "threads": 2, "isa": "scalar"}
    assert result["bandwidth_gbs"] == 2.0
    assert result["weights_bytes"] == 1000
    assert list(result["verify_ms"]) == ["1", "2", "4", "8", "16", "32", "64"]
    assert result["verify_ms"]["64"] == pytest.approx(17.004)
    assert result["verify_ms_spread"]["1"] == {
        "min": 1.25,
        "median": pytest.approx(1.254),
        "max": pytest.approx(1.258),
        "repeats": 9,
    }
    assert result["bandwidth_fraction"] == pytest.approx(1000 / 1.254e-3 / 2e9)
    assert result["prefill_tps"] == {"512": pytest.approx(2000)}
    row = result["prompts"][0]
    assert (row["id"], row["category"], row["identical"]) == ("a/1", "code", True)
    assert (row["plain_tps"], row["spec_tps"]) == (26.0, 52.0)
    assert (row["plain_tps_total"], row["spec_tps_total"]) == (pytest.approx(26 / 1.5), 26.0)
    assert row["acceptance_by_depth"] == [0.5]
    assert list(result["summary"]) == ["code", "qa", "overall"]
    assert result["summary"]["code"]["prompts"] == 2
    assert result["summary"]["overall"]["ratio"] == pytest.approx(2.0)
    assert result["summary"]["overall"]["tau"] == 2.0


def test_methods_are_for_the_speculative_side_only(fake, model_file, prompts):
    options = bench.BenchOptions(
        "ngram", "chain", "match", {"ngram.x": "1"}, device="cuda", threads=1, context=9, tokens=2
    )
    bench.bench(model_file, options, bench.read_prompts(prompts))
    plain, speculative = fake.made
    assert (plain.draft, speculative.draft) == ("none", "ngram")
    assert "method_options" not in plain.options or plain.options["method_options"] == {}
    assert speculative.options["method_options"] == {"ngram.x": "1"}
    assert (plain.options["policy"], speculative.options["policy"]) == ("auto", "chain")
    assert {engine.options["device"] for engine in fake.made} == {"cuda"}
    assert {engine.options["prefix_cache_bytes"] for engine in fake.made} == {0}  # prompts are read every time


def test_prompts_go_through_the_chat_template_unless_raw(fake, model_file, prompts):
    entries = bench.read_prompts(prompts)[:1]
    bench.bench(model_file, bench.BenchOptions(tokens=2), entries)
    assert bytes(fake.made[-1].calls[-1]["prompt"]) == b"<|user|>one$<|assistant|>"
    bench.bench(model_file, bench.BenchOptions(tokens=2, raw=True), entries)
    assert fake.made[-1].calls[-1]["prompt"] == "one"


def test_texts_that_differ_are_reported(fake, model_file, prompts, monkeypatch):
    original = fake.generate

    def generate(self, *arguments, **options):
        result = original(self, *arguments, **options)
        if self.draft != "none" and options["max_tokens"] == 3:
            result["tokens"][-1] += 1
        return result

    monkeypatch.setattr(fake, "generate", generate)
    result = bench.bench(model_file, bench.BenchOptions(tokens=3), bench.read_prompts(prompts))
    assert [row["identical"] for row in result["prompts"]] == [False] * 3
    assert result["summary"]["overall"]["identical"] is False


def test_short_answers_are_repeated_as_other_tenants(fake, model_file, prompts):
    result = bench.bench(model_file, bench.BenchOptions(tokens=26), bench.read_prompts(prompts))
    assert [row["repeats"] for row in result["prompts"]] == [4] * 3  # 1 s of plain decoding, 0.5 s of the other
    for engine in fake.made:
        tenants = [call["tenant"] for call in engine.calls if call["max"] == 26]
        assert tenants == ["", "repeat 1", "repeat 2", "repeat 3"] * 3


def test_the_answer_of_median_speed_counts():
    def one(tokens_per_second, text="same"):
        stats = forerun.Stats(tokens=10, steps=5, decode_seconds=10 / tokens_per_second)
        return forerun.Completion(text=text, tokens=[1], finish_reason="length", logprobs=None, stats=stats)

    kept = bench.typical([one(10), one(30), one(20)])
    assert (kept["tps"], kept["repeats"]) == (pytest.approx(20), 3)
    assert kept["digest"] == bench.typical([one(5)])["digest"] != ""
    assert bench.typical([one(10), one(30, "other"), one(20)])["digest"] == ""


def test_summaries_are_geometric_means_by_category():
    def row(category, plain, spec):
        return {
            "category": category,
            "plain_tps": plain,
            "spec_tps": spec,
            "plain_tps_total": plain,
            "spec_tps_total": spec,
            "tokens": 10,
            "steps": 5,
            "identical": True,
        }

    rows = [row("x", 10, 10), row("x", 10, 40), row("y", 10, 5), row("y", 0, 0)]
    summary = bench.summarise(rows)
    assert summary["x"]["ratio"] == pytest.approx(2.0)
    assert summary["y"]["ratio"] == pytest.approx(0.5)
    assert summary["overall"]["ratio"] == pytest.approx(math.prod([1, 4, 0.5]) ** (1 / 3))
    assert summary["overall"]["slowest_ratio"] == 0.5
    assert bench.summarise([])["overall"]["ratio"] == 0.0


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}', '{"id": 1, "category": "", "prompt": ""}'])
def test_a_malformed_prompt_file_is_refused_with_the_line(tmp_path, line):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "category": "b", "prompt": "c"}\n' + line + "\n")
    with pytest.raises(ValueError, match="line 2"):
        bench.read_prompts(path)


def test_only_newlines_end_a_line_of_a_prompt_file(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "category": "b", "prompt": "c \u2028 \x85"}\r\n', encoding="utf-8")
    assert [entry.prompt for entry in bench.read_prompts(path)] == ["c \u2028 \x85"]


def test_an_empty_prompt_file_is_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n")
    with pytest.raises(ValueError, match="no prompt"):
        bench.read_prompts(path)
