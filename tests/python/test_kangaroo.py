"""Kangaroo: the runtime's adapter and PyTorch's against NumPy, and that it learns."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

import forerun
from draft_reference import Twin, draft_config, random_draft, write_draft
from forerun.convert_draft import convert_draft
from forerun.draft_file import read_draft
from reference import hidden_states
from test_convert_draft import as_published, published_config, save
from test_heads import PROMPT, SHAPE, TOKENS, to_dict, trees
from test_heads import target as target

CASES = {
    "attention only": (draft_config("kangaroo", ffn_width=0), False),
    "two blocks with a head of their own": (draft_config("kangaroo", blocks=2, taps=[1]), True),
}


class Behind(Twin):
    """states_of: the target's states at every token of a text."""

    states_of = None

    def law(self, tokens, states, chain):
        """Every row anew, from the text's first token to the last guess."""
        rows = self.run_blocks(None, self.states_of([*tokens, *chain]))
        return self.softmax(self.head @ self.norm("norm", rows[-1]))


def make_twin(weights, c, tensors, states_of=None):
    made = Behind(c, tensors, weights.values["token_embd.weight"], weights.values["output.weight"])
    made.states_of = states_of or (lambda text: hidden_states(SHAPE, weights, text)[c["taps"][0]])
    return made


def largest_error(tree, twin, text):
    error, chains = 0.0, {0: []}
    for index, node in enumerate(tree["nodes"][1:], 1):
        above = chains[node["parent"]]
        chains[index] = [*above, node["token"]]
        found = twin.law(text, None, above)[list(twin.tokens).index(node["token"])]
        error = max(error, abs(found - node["score"]))
    return error


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_drafts_what_its_twin_says(target, tmp_path, case):
    path, weights = target
    c, own_head = CASES[case]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head)
    draft = write_draft(tmp_path / "draft.gguf", c, tensors)
    twin = make_twin(weights, c, tensors)
    for text, tree in trees(path, draft):
        assert len(tree.nodes) == 8
        assert largest_error(to_dict(tree), twin, text) < 2e-3


def test_the_comparison_sees_a_wrong_layer_a_shifted_state_and_a_missing_norm(target, tmp_path):
    path, weights = target
    c, own_head = CASES["attention only"]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head)
    draft = write_draft(tmp_path / "draft.gguf", c, tensors)
    text, tree = next(iter(trees(path, draft, 1)))
    tree = to_dict(tree)
    layer = c["taps"][0]

    def error(states_of=None, change=None):
        return largest_error(tree, make_twin(weights, c, tensors | (change or {}), states_of), text)

    assert error() < 2e-3
    assert error(lambda found: hidden_states(SHAPE, weights, found)[layer - 1]) > 0.02
    assert error(lambda found: hidden_states(SHAPE, weights, found)[layer][:-1]) > 0.02
    assert error(lambda found: hidden_states(SHAPE, weights, found)[layer][1:]) > 2e-3  # the first state left out
    for name in [name for name in tensors if "norm" in name]:
        assert error(change={name: np.ones_like(tensors[name])}) > 5e-3, name


@pytest.mark.parametrize("case", CASES)
def test_a_published_adapter_becomes_the_same_draft(target, tmp_path, case):
    path, _ = target
    c, _ = CASES[case]
    c = c | {"ffn_width": 0}
    tensors = random_draft(np.random.default_rng(5), c)
    source = save(tmp_path / "published", published_config(c), as_published("kangaroo", tensors))
    made = convert_draft(source, tmp_path / "made.gguf", str(path), weights="f32", exit_layer=c["taps"][0])
    assert made.items() >= {key: value for key, value in c.items() if key != "norm_epsilon"}.items()
    found = read_draft(tmp_path / "made.gguf")[1]
    assert found.keys() == tensors.keys()
    assert all((found[name] == value).all() for name, value in tensors.items())
    forerun.Engine(path, f"head:{tmp_path / 'made.gguf'}", threads=1)
    with pytest.raises(ValueError, match="exit_layer: expected 1 or more for Kangaroo"):
        convert_draft(source, tmp_path / "other.gguf", str(path))
    with pytest.raises(ValueError, match="it reads layers"):
        convert_draft(source, tmp_path / "other.gguf", str(path), exit_layer=3)


def test_files_of_another_graph_are_refused(target, tmp_path):
    path, _ = target
    c, own_head = CASES["attention only"]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head)
    for change, reason in (
        ({"taps": [-1]}, "taps is not one layer from 1 on"),
        ({"taps": [0]}, "taps is not one layer from 1 on"),
        ({"taps": [1, 2]}, "taps is not one layer from 1 on"),
        ({"width": 128}, "which this family needs"),
        ({"ffn_width": 64}, "ffn_norm"),
    ):
        draft = write_draft(tmp_path / "draft.gguf", c, tensors, **change)
        with pytest.raises(forerun.ModelFileError, match=reason):
            forerun.Engine(path, f"head:{draft}", threads=1)
    surplus = tensors | {"block.0.ffn_norm.weight": np.ones(256, np.float32)}
    draft = write_draft(tmp_path / "draft.gguf", c, surplus)
    with pytest.raises(forerun.ModelFileError, match=r"ffn_norm\.weight' has no place"):
        forerun.Engine(path, f"head:{draft}", threads=1)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_text_stays_the_same(target, tmp_path, temperature):
    path, _ = target
    c, own_head = CASES["attention only"]
    draft = write_draft(tmp_path / "draft.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS, own_head))
    options = {"max_tokens": 40, "sampling": {"temperature": temperature}, "seed": 3}
    with forerun.Engine(path, "none", threads=1) as engine:
        wanted = engine.generate(PROMPT, **options).tokens
    for settings in ({}, {"fixed_draft": 6}, {"fixed_draft": 6, "method_options": {"auto.stop": "confidence:0.1"}}):
        with forerun.Engine(path, f"head:{draft}", threads=1, **settings) as engine:
            assert engine.generate(PROMPT, **options).tokens == wanted


torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

from forerun.cli import run as command  # noqa: E402
from forerun.train.collect import Budget, collect  # noqa: E402
from forerun.train.config import DraftConfig  # noqa: E402
from forerun.train.data import make_batch  # noqa: E402
from forerun.train.drafts import load_draft  # noqa: E402
from forerun.train.export import as_stored, export  # noqa: E402
from forerun.train.loop import read_log  # noqa: E402
from forerun.train.target import read_target  # noqa: E402
from forerun.train.unroll import steps  # noqa: E402
from test_export import random_draft as random_torch_draft  # noqa: E402
from test_export import twin_of  # noqa: E402
from test_train_models import sequence, tiny  # noqa: E402
from test_train_runs import Counting, circles  # noqa: E402
from train_twins import Chain  # noqa: E402

SHAPES = [(1, {"ffn_width": 0}), (2, {})]


@pytest.mark.parametrize(("blocks", "more"), SHAPES)
def test_rows_are_those_of_a_decoder_over_the_states_of_the_tokens_themselves(blocks, more):
    rng = np.random.default_rng(1)
    texts = [sequence(rng, 9, 4), sequence(rng, 7, 2)]
    draft = tiny("kangaroo", blocks, taps=(3,), **more)
    batch = make_batch(texts)
    tensors = {name: value.numpy() for name, value in draft.state_dict().items()}
    with torch.no_grad():
        found = {step: (columns.tolist(), state) for step, columns, state in steps(draft, batch, 3)}
        logits = {step: draft.logits(state, step) for step, (_, state) in found.items()}
    compared = 0
    for row, source in enumerate(texts):
        chain = Chain(tensors, asdict(draft.config), draft.embedding.numpy())
        own = [chain.row(feature, 0, own=False) for feature in source.features]
        pad = batch.start - (source.learn_from - 1)
        for step, (columns, state) in found.items():
            counts = batch.wanted(step, torch.tensor(columns))[3]
            for place, column in enumerate(columns):
                if counts[row, place]:
                    wanted = own[column - pad + 1 + step]
                    assert np.abs(state[row, place].numpy() - wanted).max() < 1e-4
                    assert np.abs(logits[step][row, place].numpy() - chain.logits(wanted)).max() < 1e-4
                    compared += 1
    assert compared > 15


@pytest.mark.parametrize(("blocks", "more"), SHAPES)
def test_the_runtime_drafts_what_the_model_would(target, tmp_path, blocks, more):
    path, _ = target
    parts = read_target(path)
    draft = random_torch_draft(parts, "kangaroo", blocks, [2], False, **more)
    file = tmp_path / "d.gguf"
    export(draft, parts, file, "random", weights="f16")
    found = load_draft(file, parts).state_dict()
    for name, value in as_stored(draft, "f16").items():
        assert (found[name].numpy() == value).all(), name
    compared = 0
    with forerun.Engine(path, f"head:{file}", threads=1, fixed_draft=4, max_draft=4, policy="chain") as engine:
        session = engine.session()
        session.append([int(token) for token in np.random.default_rng(5).integers(0, 256, 30)])
        for _ in range(12):
            text = list(session.tokens)
            session.step()
            text += [node.token for node in session.last_tree().nodes[1:]]
            features = engine.features(text, taps=[2])[0].astype(np.float64)
            chain = twin_of(draft, "f16")
            for place, feature in enumerate(features[:-1]):
                logits = chain.logits(chain.row(feature, 0, own=False))
                if place + 1 < len(text) - (len(session.last_tree().nodes) - 1):
                    continue
                first, second = np.sort(logits)[-1:-3:-1]
                if first - second < 0.05 * np.abs(logits).max():
                    break
                assert text[place + 1] == int(draft.draft_tokens[logits.argmax()])
                compared += 1
    assert compared >= 8


def test_an_adapter_learns_what_follows_and_drafts(target, tmp_path, capsys):
    path, _ = target
    shards = tmp_path / "shards"
    collect(Counting(read_target(path).width), circles(30), shards, [2, -1], 3, Budget(shard_tokens=60))
    file = tmp_path / "d.gguf"
    options = "--epochs 6 --rows 64 --held-out 5 --draft-vocab 8 --own-head --validate-every 20 --f32 --weights f16"
    wanted = ["train", "draft", str(path), str(shards), str(file), *options.split(), "--family", "kangaroo"]
    assert command([*wanted, "--exit-layer", "2"]) == 0
    best = max(read_log(tmp_path / "d.run"), key=lambda entry: entry["score"])
    assert best["acceptance"][0] > 0.95
    assert best["chain_tau"] > 4  # what a row says deeper down is what it says in the text
    with forerun.Engine(path, f"head:{file}", threads=1, fixed_draft=4) as engine:
        assert engine.generate([1, 2, 3], max_tokens=8).tokens
    capsys.readouterr()
    for change, reason in (
        ([], "exit-layer"),
        (["--exit-layer", "2", "--unroll", "3"], "learns from 1 steps"),
        (["--exit-layer", "1"], "collect them first"),
    ):
        assert command([*wanted, *change]) == 2
        assert reason in capsys.readouterr().err
    added = [str(path), str(shards), str(file), str(tmp_path / "a.gguf")]
    assert command(["train", "heads", "acceptance", *added]) == 2
    assert "needs the target's layers" in capsys.readouterr().err


def test_shapes_that_no_adapter_has_are_refused():
    for taps in ([-1], [0], [1, 2]):
        with pytest.raises(ValueError, match="taps: kangaroo"):
            DraftConfig("kangaroo", 8, taps=taps)
    with pytest.raises(ValueError, match="ffn_width"):
        DraftConfig("dgf", 8, ffn_width=0)
