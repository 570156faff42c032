"""Profiles: sums by operation over hand-made spans, and traces of a tiny model's real steps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from forerun import Engine
from forerun.cli import run
from forerun.profile import OperationCost, Profile, Span, chrome_trace
from tiny_files import make, write_gguf

TINY = {
    "architecture": "llama",
    "layers": 2,
    "width": 64,
    "ffn": 96,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 32,
    "rotary": 32,
    "vocab": 272,
    "epsilon": 1e-5,
}

# Two steps of 100 and 60 us. The first drafts with a model, and leaves 7 us to nobody.
SPANS = [
    Span("step", "step", 0, 2, 0, 100_000),
    Span("draft", "stage", 0, 0, 1_000, 20_000),
    Span("linear.head", "operation", 0, 1, 2_000, 9_000, 500, 1_000),
    Span("top_k", "operation", 0, 1, 11_000, 4_000, 8, 2),
    Span("forward", "stage", 0, 0, 22_000, 70_000),
    Span("linear.head", "operation", 0, 2, 23_000, 40_000, 1_000, 4_000),
    Span("attention", "operation", 0, 2, 63_000, 20_000, 600, 300),
    Span("add", "operation", 0, 2, 84_000, 6_000, 24, 2),
    Span("verify", "stage", 0, 0, 93_000, 3_000, 40),
    Span("step", "step", 2, 1, 200_000, 60_000),
    Span("forward", "stage", 2, 0, 200_000, 60_000),
    Span("linear.head", "operation", 2, 1, 200_000, 60_000, 1_000, 2_000),
    Span("prefill", "step", 1, 9, 120_000, 50_000),
    Span("linear.head", "operation", 1, 9, 121_000, 40_000, 1_000, 9_000),
]


def test_an_operation_counts_for_the_mean_step():
    # as recorded: inner spans first
    costs = Profile(sorted(SPANS, key=lambda span: span.start_ns + span.duration_ns)).costs()
    assert (costs.steps, costs.rows, costs.ms) == (2, 1.5, pytest.approx(0.080))
    found = {cost.name: cost for cost in costs.operations}
    assert {name: cost.ms for name, cost in found.items()} == {
        "linear.head": pytest.approx(0.050),
        "attention": pytest.approx(0.010),
        "draft.linear.head": pytest.approx(0.0045),
        "draft.top_k": pytest.approx(0.002),
        "draft": pytest.approx(0.0035),  # 20 us without the 13 of its operations
        "add": pytest.approx(0.003),
        "verify": pytest.approx(0.0015),
        "other": pytest.approx(0.0055),  # 4 us in the forward and 7 between the stages
    }
    assert [cost.name for cost in costs.operations][:2] == ["linear.head", "attention"]
    head = found["linear.head"]
    assert (head.calls, head.bytes, head.operations) == (1, 1_000, 3_000)
    assert head.share == pytest.approx(50 / 80)
    assert costs.outside == pytest.approx((80 - 50 - 10 - 4.5) / 80)


def test_kinds_of_steps_are_counted_apart():
    profile = Profile(SPANS)
    assert [step.step for step in profile.steps()] == [0, 2]
    prefill = profile.costs("prefill")
    assert (prefill.steps, prefill.rows) == (1, 9)
    assert {cost.name: round(cost.ms, 6) for cost in prefill.operations} == {"linear.head": 0.04, "other": 0.01}
    nothing = profile.costs("measure")
    assert (nothing.steps, nothing.ms, nothing.operations, nothing.outside) == (0, 0, (), 0)


@pytest.mark.parametrize(
    ("calls", "ms", "megabytes", "bound"),
    [
        (1, 1.0, 6.1, "memory"),
        (1, 1.0, 5.9, "compute"),
        (10, 0.049, 6.1, "overhead"),
        (10, 0.051, 6.1, "memory"),
        (0, 1.0, 0, "overhead"),
    ],
)
def test_what_bounds_an_operation(calls, ms, megabytes, bound):
    assert OperationCost("x", calls, ms, 0.1, megabytes * 1e6, 0).bound(bandwidth_gbs=10.0) == bound


def test_rates_are_per_second():
    cost = OperationCost("x", 1, 2.0, 0.1, 8e6, 6e6)
    assert (cost.gb_per_s, cost.gop_per_s) == (pytest.approx(4.0), pytest.approx(3.0))
    assert OperationCost("x", 1, 0.0, 0.0, 8, 8).gb_per_s == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    files, _ = make(np.random.default_rng(1), TINY, "F32", "F32")
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_gguf(path, TINY, files)
    return str(path)


def complete_events(trace: dict) -> list[dict]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def test_a_trace_holds_every_span_in_microseconds_and_nests(tiny):
    with Engine(tiny, draft="ngram+recycle", fixed_draft=4, threads=1, profile=True) as engine:
        engine.generate("abcabcabcabc", max_tokens=12)
        profile = engine.profile()
    trace = json.loads(json.dumps(profile.trace()))
    events = complete_events(trace)
    assert len(events) == len(profile) > 0
    assert {event["cat"]: event["tid"] for event in events} == {"step": 1, "stage": 1, "operation": 2}
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert names == {"forerun", "steps", "operations"}
    span, event = profile.spans[-1], events[-1]
    assert (event["ts"] * 1000, event["dur"] * 1000) == (
        pytest.approx(span.start_ns),
        pytest.approx(span.duration_ns),
    )
    for track in (1, 2):
        ends: list[float] = []
        for event in (event for event in events if event["tid"] == track):
            while ends and event["ts"] >= ends[-1] - 1e-6:
                ends.pop()
            assert not ends or event["ts"] + event["dur"] <= ends[-1] + 1e-6, event
            assert track == 1 or not ends, "operations do not contain each other"
            ends.append(event["ts"] + event["dur"])


def test_the_operations_of_a_real_step_add_up_to_it(tiny):
    with Engine(tiny, draft="none", threads=1, profile=True) as engine:
        engine.generate("abc", max_tokens=8)
        costs = engine.profile().costs()
        assert engine.profile().spans == ()
    assert (costs.steps, costs.rows) == (8, 1)
    assert sum(cost.ms for cost in costs.operations) == pytest.approx(costs.ms)
    assert sum(cost.share for cost in costs.operations) == pytest.approx(1)
    found = {cost.name: cost for cost in costs.operations}
    assert (found["linear.qkv"].calls, found["rms_norm"].calls, found["linear.head"].calls) == (2, 3, 1)
    assert found["linear.head"].bytes == 4 * 64 * 272


def test_without_asking_there_is_no_profile(tiny):
    with Engine(tiny, draft="none", threads=1) as engine, pytest.raises(ValueError, match="profile"):
        engine.profile()


def test_several_profiles_are_processes_of_one_trace():
    trace = chrome_trace({"plain": Profile(SPANS[:9]), "rows": Profile(SPANS[9:12])})
    assert [event["pid"] for event in complete_events(trace)] == [1] * 9 + [2] * 3


def test_bench_shows_the_table_and_saves_figures_and_trace(tiny, tmp_path, capfd):
    trace, figures = tmp_path / "trace.json", tmp_path / "figures.json"
    options = ["--profile", "--rows", "5", "--tokens", "6", "--repeats", "2", "--threads", "1"]
    assert run(["bench", tiny, *options, "--trace", str(trace), "--json", str(figures)]) == 0
    shown = capfd.readouterr().out
    assert shown.count("outside matmul and attention:") == 3
    assert "linear.gate_up" in shown
    result = json.loads(figures.read_text())
    assert result["bandwidth_gbs"] > 0
    assert list(result["profile"]) == ["rows", "plain", "speculative"]
    assert result["profile"]["rows"]["rows"] == 5
    assert result["profile"]["plain"]["steps"] == 6
    operations = result["profile"]["plain"]["operations"]
    assert {operation["bound"] for operation in operations} <= {"overhead", "memory", "compute"}
    processes = [e["args"]["name"] for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "process_name"]
    assert processes == ["rows", "plain", "speculative"]


def test_plain_profiles_load_no_draft(tiny, capfd):
    assert run(["bench", tiny, "--profile", "--draft", "none", "--tokens", "2", "--json", "-"]) == 0
    assert list(json.loads(capfd.readouterr().out)["profile"]) == ["plain"]


def test_a_given_prompt_goes_through_the_chat_template_unless_it_is_raw(tiny, tmp_path, capfd):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"id": "1", "category": "c", "prompt": "abc"}\n')
    command = ["bench", tiny, "--profile", "--draft", "none", "--tokens", "2", "--prompts", str(prompts)]
    assert run(command) == 2
    assert "no chat template" in capfd.readouterr().err
    assert run([*command, "--raw"]) == 0


@pytest.mark.parametrize("options", [["--rows", "4"], ["--trace", "x.json"], ["--profile", "--rows", "0"]])
def test_options_that_make_no_sense_are_refused(tiny, options):
    assert run(["bench", tiny, *options]) == 2


def test_a_trace_into_a_missing_folder_is_refused_before_any_work(fake, model_file, tmp_path):
    assert run(["bench", model_file, "--profile", "--trace", str(tmp_path / "no" / "t.json")]) == 2
    assert fake.made == ()
