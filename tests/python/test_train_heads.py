"""Heads beside a draft: predicted acceptance (SpecDec++) and the judge; drafts read back from their files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

import forerun  # noqa: E402
from forerun.cli import run as command  # noqa: E402
from forerun.draft_file import Target, read_draft, write_draft  # noqa: E402
from forerun.train.acceptance import AcceptanceHead, AcceptancePlan, drafted, loss_of, ranking  # noqa: E402
from forerun.train.collect import Budget, collect  # noqa: E402
from forerun.train.data import make_batch  # noqa: E402
from forerun.train.drafts import load_draft  # noqa: E402
from forerun.train.export import as_stored, export  # noqa: E402
from forerun.train.judge import fit, labels, read_judged, train_judge  # noqa: E402
from forerun.train.loop import read_log  # noqa: E402
from forerun.train.runs import Shape, train_draft  # noqa: E402
from forerun.train.shards import Sequence  # noqa: E402
from forerun.train.target import read_target  # noqa: E402
from forerun.train.trainer import Schedule  # noqa: E402
from forerun.train.unroll import Objective  # noqa: E402
from test_export import DEPTH, random_draft  # noqa: E402
from test_stop_heads import acceptance  # noqa: E402
from test_train_runs import Counting, circles  # noqa: E402


@pytest.fixture(scope="module")
def shards(target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    collect(Counting(read_target(target).width), circles(30), folder, [-1], 3, Budget(shard_tokens=60))
    return folder


DRAFTS = [
    ("dgf", 1, [-1], False, {}),
    ("eagle", 2, [-1], True, {}),
    ("eagle3", 1, [0, 2], True, {}),
    ("medusa", 0, [-1], True, {"stacks": 2, "stack_layers": 2}),
    ("hydra", 1, [-1], False, {"stacks": DEPTH, "stack_layers": 3}),
    ("chimera", 1, [-1], True, {}),
    ("falcon", 1, [-1], False, {"span": 3}),
]


@pytest.mark.parametrize(("family", "blocks", "taps", "own_head", "more"), DRAFTS)
def test_a_draft_comes_back_from_its_file_as_the_runtime_reads_it(
    target, tmp_path, family, blocks, taps, own_head, more
):
    parts = read_target(target)
    draft = random_draft(parts, family, blocks, taps, own_head, **more)
    export(draft, parts, tmp_path / "d.gguf", "d", "q8_0")
    found = load_draft(tmp_path / "d.gguf", parts)
    assert replace(found.config, draft_vocab=0) == replace(
        draft.config, draft_vocab=0, norm_epsilon=found.config.norm_epsilon, **({} if blocks else unused(found))
    )
    assert found.draft_tokens.tolist() == draft.draft_tokens.tolist()
    state = {name: value.numpy() for name, value in found.state_dict().items()}
    for name, value in as_stored(draft).items():
        assert (state[name] == value).all(), name
    if not own_head:
        assert (state["head.weight"] == parts.head[found.draft_tokens.numpy()]).all()


def unused(draft):
    """Shapes of blocks that a file without blocks does not tell."""
    return {name: getattr(draft.config, name) for name in ("heads", "kv_heads", "head_dim", "ffn_width", "rope_base")}


def test_a_draft_that_does_not_fit_is_refused_with_the_reason(target, tmp_path):
    parts = read_target(target)
    draft = random_draft(parts, "dgf", 1, [-1], True)
    export(draft, parts, tmp_path / "d.gguf", "d", "f32")
    metadata, tensors = read_draft(tmp_path / "d.gguf")

    def refuse(error, reason, change=None, tensor=None):
        held = {name: value for name, value in (tensors | (tensor or {})).items() if value is not None}
        write_draft(tmp_path / "bad.gguf", metadata | (change or {}), held, weights="f32")
        with pytest.raises(error, match=reason):
            load_draft(tmp_path / "bad.gguf", parts)

    refuse(ValueError, r"target\.layers is 4, the target has 3", {"target.layers": 4})
    refuse(ValueError, r"target\.tokenizer is 00, the target has", {"target.tokenizer": "00"})
    refuse(NotImplementedError, "draft format 2", {"format": 2})
    refuse(ValueError, "family", {"family": "hope"})
    refuse(ValueError, r"forerun\.draft\.width is missing", {"width": None})
    refuse(ValueError, "norm_before_residual", {"norm_before_residual": True})
    refuse(ValueError, r"dgf\.gate\.weight: expected .* found none", None, {"dgf.gate.weight": None})
    refuse(ValueError, r"fc\.weight: expected none, found \(4, 4\)", None, {"fc.weight": np.zeros((4, 4))})
    refuse(ValueError, r"dgf\.w1\.weight: expected \(256, 256\), found", None, {"dgf.w1.weight": np.zeros((256, 64))})
    with pytest.raises(forerun.ModelFileError, match="'llama', expected 'forerun-draft'"):
        load_draft(target, parts)
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "d.gguf").read_bytes()[:300])
    with pytest.raises(forerun.ModelFileError, match=r"cut\.gguf"):
        load_draft(tmp_path / "cut.gguf", parts)


class Teller:
    """A draft that always says 7, and whose state is a one and the tokens that it was given."""

    most_steps, tokens_read = 11, 1
    draft_tokens = torch.arange(9)

    def begin(self, features, tokens, present, start):
        tokens = tokens[:, start:].float()
        return torch.cat([torch.ones_like(tokens), tokens], -1), []

    def extend(self, state, tokens, columns, step, seen, present):
        return torch.cat([state, tokens.float()], -1)

    def readout(self, state, step):
        head = torch.zeros(9, state.shape[-1])
        head[7, 0] = 99
        return state, head


def test_branches_count_up_to_the_first_token_that_the_text_does_not_have():
    tokens = np.array([1, 1, 1, 7, 7, 2, 7], np.int32)
    source = Sequence(tokens, 3, np.zeros((7, 1)), np.zeros((7, 1), int), np.zeros((7, 1)))
    found = [
        (states.tolist(), accepted.tolist())
        for states, accepted in drafted(Teller(), make_batch([source]), 3, true_share=0.0)
    ]
    assert found == [
        ([[1, 7, 7], [1, 7, 7], [1, 2, 7]], [1, 0, 1]),  # after the roots 7, 7, 2 the text has 7, 2, 7
        ([[1, 7, 7, 7]], [0]),  # the first row goes on, and the text has 2; the third is at its end
        ([], []),
    ]


def test_the_text_keeps_a_share_of_its_tokens_and_learns_nothing_from_them(target):
    draft = random_draft(read_target(target), "dgf", 1, [-1], False)
    rng = np.random.default_rng(2)
    source = [
        Sequence(rng.integers(0, 256, 60).astype(np.int32), 2, rng.normal(0, 1, (60, 256)).astype(np.float16),
                 np.zeros((60, 1), int), np.zeros((60, 1)))
        for _ in range(8)
    ]  # fmt: skip
    torch.manual_seed(0)
    counts = [len(accepted) for _, accepted in drafted(draft, make_batch(source), 2, true_share=0.5)]
    rows = 8 * 57
    assert 0.4 * rows < counts[0] < 0.6 * rows
    assert 0.15 * rows < counts[1] < 0.35 * rows  # a random draft is never right: what goes on is the text's


def test_the_loss_weighs_rejections_and_the_ranking_counts_pairs():
    head = AcceptanceHead(3, 1)
    states, accepted = torch.randn(5, 3), torch.tensor([1.0, 0, 1, 1, 0])
    p = torch.sigmoid(head(states)).detach().numpy()
    by_hand = np.where(accepted.numpy() > 0, -np.log(p), -6 * np.log(1 - p)).mean()
    assert loss_of(head, states, accepted, 6.0)[1] == pytest.approx(by_hand, rel=1e-5)
    scores = torch.tensor([0.9, 0.3, 0.2, 0.8, 0.5])
    assert ranking(scores, accepted) == pytest.approx(4 / 6)
    assert ranking(scores, torch.ones(5)) == 0.5


def test_the_head_is_the_one_of_the_formulas():
    head = AcceptanceHead(256, 2, seed=3)
    for parameter in head.block.parameters():
        parameter.data = 0.06 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    states = torch.randn(4, 256, generator=torch.Generator().manual_seed(2))
    for row in states:
        assert torch.sigmoid(head(row)).item() == pytest.approx(acceptance(head.tensors(), row.numpy()), rel=1e-4)


@pytest.mark.parametrize("family", ["dgf", "hydra++", "chimera"])
def test_what_is_accepted_is_learnt_and_stored_and_stops_branches(target, shards, tmp_path, capsys, family):
    # The target's law leaves a fifth to tokens that do not follow, so that a trained draft guesses them as often.
    shape = Shape(family, ffn_width=32, draft_vocab=8, own_head=True, stacks=3)
    schedule = Schedule(epochs=12, rows=64, rate=0.02, fine_rate=0.002, validate_every=20)
    learnt = train_draft(target, shards, tmp_path / "run", shape, Objective(unroll=3), schedule, held_out=5)
    export(learnt, read_target(target), tmp_path / "d.gguf", "d")
    options = "--epochs 6 --rows 64 --held-out 5 --rate 0.01 --layers 2 --depth 2 --weights f16 --seed 4"
    files = []
    for name in ("a", "b"):
        file = tmp_path / f"{name}.gguf"
        wanted = [str(target), str(shards), str(tmp_path / "d.gguf"), str(file), *options.split()]
        assert command(["train", "heads", "acceptance", *wanted]) == 0
        files.append(file.read_bytes())
    assert files[0] == files[1]
    assert "held-out tokens" in capsys.readouterr().out
    best = min(read_log(tmp_path / "a.run"), key=lambda entry: entry["loss"])
    assert 0.6 < best["accepted"] < 0.95
    least = {"dgf": 0.95, "chimera": 0.75, "hydra++": 0.6}  # Hydra's states keep little of their token
    assert best["ranking"] > least[family]
    before, after = read_draft(tmp_path / "d.gguf"), read_draft(tmp_path / "a.gguf")
    assert before[0] == after[0]
    added = {f"accept.{name}" for name in AcceptanceHead(256, 2).state_dict()}
    assert after[1]["accept.out.weight"].shape == (1, learnt.config.head_inputs)
    assert after[1].keys() - before[1].keys() == added
    assert all((after[1][name] == value).all() for name, value in before[1].items())
    stop = {"auto.stop": "head:0.5"}
    with forerun.Engine(target, f"head:{tmp_path / 'a.gguf'}", threads=1, fixed_draft=4, method_options=stop) as engine:
        assert engine.generate([1, 2, 3], max_tokens=8).tokens
    assert command(["train", "heads", "acceptance", *wanted, "--true-share", "0.3"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_medusa_and_wrong_plans_are_refused(target, shards, tmp_path, capsys):
    parts = read_target(target)
    export(random_draft(parts, "medusa", 0, [-1], False, stacks=2), parts, tmp_path / "d.gguf", "d")
    wanted = [str(target), str(shards), str(tmp_path / "d.gguf"), str(tmp_path / "a.gguf")]
    assert command(["train", "heads", "acceptance", *wanted]) == 2
    assert "do not know the drafted token" in capsys.readouterr().err
    for change in ({"depth": 0}, {"depth": 11}, {"true_share": 1.0}, {"layers": 0}, {"reject_weight": 0.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            AcceptancePlan(**change)


def test_tokens_are_wrong_where_a_wrong_piece_touches_them():
    pieces = [("ab", True), ("cdé", False), ("f", True)]  # 2, 4 and 1 bytes
    assert labels([1, 1, 1, 1, 2, 1], pieces) == [True, True, False, False, False, True]
    assert labels([3, 4], pieces) == [False, False]
    assert labels([3, 1, 3, 1], pieces) == [True, False, False, True]  # a space in front that the text has not


def test_the_judge_finds_the_direction_that_tells_right_from_wrong():
    rng = np.random.default_rng(1)
    states = rng.normal(0, 1, (400, 6)) * np.array([1, 50, 1, 0.01, 1, 1]) + 3
    right = (states[:, 0] - 3 + 0.02 * (states[:, 1] - 3) > 1).astype(np.float32)  # few are right
    weight, bias = fit(torch.tensor(states, dtype=torch.float32), torch.from_numpy(right))
    found = (torch.tensor(states, dtype=torch.float32) @ weight + bias > 0).numpy()
    assert found[right == 1].mean() > 0.95
    assert found[right == 0].mean() < 0.05
    with pytest.raises(ValueError, match="found 400 and 0"):
        fit(torch.tensor(states, dtype=torch.float32), torch.ones(400))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: JSONDecodeError"),
        ("{}", "line 2: KeyError"),
        ('{"prompt": "a", "answer": [["b"]]}', "line 2: ValueError"),
        ('{"prompt": "a", "answer": [["b", 1]]}', "line 2: expected"),
        ('{"prompt": 3, "answer": [["b", true]]}', "line 2: expected"),
        ('{"prompt": "a", "answer": []}', "line 2: expected"),
    ],
)
def test_answers_that_are_not_marked_are_refused(tmp_path, line, reason):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"prompt": "a", "answer": [["b", true], ["c", false]]}\n' + line + "\n")
    with pytest.raises(ValueError, match=reason):
        read_judged(path)


class Rendering:
    """An engine of a model without a chat template, with a plain one."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def render(self, messages):
        return f"{messages[0]['content']}: "


def test_a_judge_is_trained_on_the_targets_own_states_and_kept_by_the_runtime(target, tmp_path):
    rng = np.random.default_rng(3)
    words = ["abcab ", "bcabc "], ["xyzxz ", "zzyxy "]
    with (tmp_path / "answers.jsonl").open("w") as out:
        for index in range(30):
            pieces = [[words[wrong][rng.integers(2)], not wrong] for wrong in rng.integers(0, 2, 4)]
            out.write(json.dumps({"prompt": f"say {index}", "answer": pieces}) + "\n")
    file = tmp_path / "judge.gguf"
    with forerun.Engine(target, "none", threads=1) as engine:
        kept = train_judge(Rendering(engine), Target.of(str(target)), tmp_path / "answers.jsonl", file, 5)
    assert kept["right"] > 0.9
    assert kept["wrong"] < 0.1
    options = {"judge.head": str(file)}
    with forerun.Engine(target, "ngram", threads=1, verify="judge", method_options=options, fixed_draft=4) as engine:
        found = engine.generate("abcab abcab ", max_tokens=12)
    assert found.stats.lossy
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join((tmp_path / "answers.jsonl").read_text().splitlines()[:2]))
    with (
        forerun.Engine(target, "none", threads=1) as engine,
        pytest.raises(ValueError, match="of 2 texts none is left"),
    ):
        train_judge(Rendering(engine), Target.of(str(target)), few, file, 5)
