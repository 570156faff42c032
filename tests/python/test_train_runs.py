"""Training runs: repeatable, resumable, and better than nothing; scoring by hand; the file that comes out."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

from gguf.quants import dequantize  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from forerun import ModelFileError, _core, draft_file  # noqa: E402
from forerun.cli import run as command  # noqa: E402
from forerun.train.collect import Budget, claim, collect  # noqa: E402
from forerun.train.data import aligned, groups, make_batch, split  # noqa: E402
from forerun.train.drafts import load_draft  # noqa: E402
from forerun.train.evaluate import evaluate  # noqa: E402
from forerun.train.export import as_stored, export, tensors  # noqa: E402
from forerun.train.loop import read_log  # noqa: E402
from forerun.train.rounding import q4_1, rounded  # noqa: E402
from forerun.train.runs import Shape, load_sequences, train_draft  # noqa: E402
from forerun.train.shards import Sequence, read_shard  # noqa: E402
from forerun.train.target import read_target  # noqa: E402
from forerun.train.texts import Text  # noqa: E402
from forerun.train.trainer import Schedule, Trainer  # noqa: E402
from forerun.train.unroll import Objective  # noqa: E402
from forerun.types import Features  # noqa: E402
from test_logits import config  # noqa: E402
from test_train_models import sequence, tiny  # noqa: E402
from tiny_files import make, write_gguf  # noqa: E402

PERIOD = 5


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "m.gguf"
    shape = config("llama", layers=2)
    files, _ = make(np.random.default_rng(1), shape, "Q8_0", "Q8_0")
    write_gguf(path, shape, files)
    return path


class Counting:
    """An engine over texts that count in circles: token t is followed by t + 1, of PERIOD."""

    def __init__(self, width, fail_at=None):
        self.info = {"path": "m.gguf"}
        self.table = np.random.default_rng(2).normal(0, 1, (PERIOD, width)).astype(np.float16)
        self.asked, self.fail_at = 0, fail_at

    def features(self, tokens, *, taps, top_k, first_law):
        if self.asked == self.fail_at:
            raise RuntimeError("stopped")
        self.asked += 1
        tokens = np.array(tokens)
        top = (tokens[:, None] + 1 + np.arange(top_k)) % PERIOD
        logprobs = np.tile(np.log(0.8 * 0.2 ** np.arange(top_k)), (len(tokens), 1)).astype(np.float32)
        states = np.tile(self.table[tokens], (1, len(taps)))
        return Features(states, top[first_law:].astype(np.int32), logprobs[first_law:])


def circles(count):
    return [Text([(begin + step) % PERIOD for step in range(14)], 3) for begin in range(count)]


@pytest.fixture(scope="module")
def shards(target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    collect(Counting(read_target(target).width), circles(20), folder, [-1], 3, Budget(shard_tokens=60))
    return folder


def go(target, shards, folder, *, epochs=12, family="dgf", hours=0.0, start=None, plan=None, **objective):
    usual = {"epochs": epochs, "rows": 64, "rate": 0.02, "fine_rate": 0.002, "validate_every": 5}
    schedule = Schedule(**usual | (plan or {}))
    shape = Shape(family, ffn_width=32, draft_vocab=8, own_head=True, stacks=2)
    wanted = Objective(unroll=2, thin=0.7, **objective)
    return train_draft(target, shards, folder, shape, wanted, schedule, held_out=5, hours=hours, start=start)


def test_what_repeats_is_learnt(target, shards, tmp_path):
    for family in ("dgf", "eagle", "chimera", "falcon", "eagle3"):
        go(target, shards, tmp_path / family, family=family)
        log = read_log(tmp_path / family)
        assert log[-1]["acceptance"][:2] == [1.0, 1.0], family  # the two depths that were unrolled
        assert log[-1]["chain_tau"] > 2.5
        assert log[0]["train"][0] > log[-1]["train"][0]
    assert log[-1]["train"][0] < 0.75  # the law's own entropy, kept to three tokens, is 0.63


def test_a_run_that_diverges_ends_and_numbers_that_are_none_guess_nothing(target, shards, tmp_path):
    with pytest.raises(RuntimeError, match="smaller rates"):
        go(target, shards, tmp_path / "run", plan={"rate": 1e30, "fine_rate": 1e30})
    draft = tiny("dgf")
    with torch.no_grad():
        for weights in draft.parameters():
            weights.fill_(float("nan"))
    texts = [sequence(np.random.default_rng(1), 30, 2)]
    assert evaluate(draft, [make_batch(texts)]).acceptance[0] == 0.0


def test_a_run_ends_where_its_last_epoch_does(tmp_path):
    """Epochs of many texts differ in their batches: as many rows, divided elsewhere."""
    rng = np.random.default_rng(1)
    texts = [sequence(rng, int(length), 2) for length in rng.integers(5, 40, 700)]
    seed, counts = next(
        (seed, counts)
        for seed in range(50)
        if (counts := [len(groups(texts, 900, seed, epoch)) for epoch in range(2)])[0] > counts[1]
    )
    schedule = Schedule(epochs=2, rows=900, validate_every=1000, seed=seed)
    Trainer(tiny("dgf"), texts, texts[:3], Objective(unroll=1), schedule, tmp_path).run()
    (last,) = read_log(tmp_path)
    assert last["step"] == last["of"] == sum(counts)


@pytest.mark.parametrize("family", ["medusa", "hydra", "hydra++"])
def test_stacks_learn_what_repeats_from_the_law_and_from_the_text(target, shards, tmp_path, family):
    for name, losses in (("law", {}), ("text", {"law": 0.0, "text": 1.0})):
        go(target, shards, tmp_path / name, family=family, **losses)
        log = read_log(tmp_path / name)
        assert log[-1]["acceptance"] == [1.0, 1.0], name
        assert log[-1]["chain_tau"] > 2.5
    assert log[-1]["train"][0] < 0.1  # nothing else follows in the texts, while the law has an entropy
    with pytest.raises(ValueError, match="predicts no features"):
        go(target, shards, tmp_path / "features", family=family, feature=1.0)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("family", ["dgf", "medusa", "hydra++", "chimera", "falcon"])
def test_one_seed_makes_one_file(target, shards, tmp_path, family):
    parts = read_target(target)
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        glance = 0.4 if family == "falcon" else 0.0
        draft = go(target, shards, tmp_path / name, epochs=3, family=family, plan={"seed": seed}, glance=glance)
        export(draft, parts, tmp_path / f"{name}.gguf", "draft", "f16")
        files.append((tmp_path / f"{name}.gguf").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(target, shards, tmp_path):
    whole = go(target, shards, tmp_path / "whole", epochs=4)
    for _ in range(200):
        stopped = go(target, shards, tmp_path / "parts", epochs=4, hours=1e-9)  # one batch at a time
        state = torch.load(tmp_path / "parts" / "state.pt", weights_only=True)
        if state["step"] == read_log(tmp_path / "whole")[-1]["of"]:
            break
    assert same(whole, stopped)
    with pytest.raises(ValueError, match="other settings"):
        go(target, shards, tmp_path / "parts", epochs=5)


def test_a_run_of_an_earlier_version_goes_on_with_the_defaults_of_what_is_new(target, shards, tmp_path):
    go(target, shards, tmp_path, epochs=2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["settings"]["objective"]["noise"]
    torch.save(state, tmp_path / "state.pt")
    go(target, shards, tmp_path, epochs=2)
    state["settings"]["objective"]["decay"] = 0.9
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="other settings"):
        go(target, shards, tmp_path, epochs=2)


def test_it_stops_when_nothing_gets_better(target, shards, tmp_path):
    go(target, shards, tmp_path, epochs=60, plan={"patience": 2})
    log = read_log(tmp_path)
    assert log[-1]["step"] < log[-1]["of"]
    scores = [entry["score"] for entry in log]
    assert max(scores[-2:]) <= max(scores[:-2])


def test_a_run_can_begin_from_another(target, shards, tmp_path):
    go(target, shards, tmp_path / "first")
    barely = {"rate": 1e-7, "fine_rate": 1e-7}
    go(target, shards, tmp_path / "second", epochs=1, start=tmp_path / "first", plan=barely)
    best = max(read_log(tmp_path / "first"), key=lambda entry: entry["score"])
    assert read_log(tmp_path / "second")[0]["acceptance"] == best["acceptance"]
    go(target, shards, tmp_path / "third", epochs=1, plan=barely)
    assert read_log(tmp_path / "third")[0]["acceptance"][0] < 0.9


@pytest.mark.parametrize("family", ["dgf", "medusa", "hydra++", "chimera", "falcon", "eagle3"])
def test_a_run_can_begin_from_a_draft_file(target, shards, tmp_path, family):
    parts, barely = read_target(target), {"rate": 1e-7, "fine_rate": 1e-7, "bf16": False}
    first = go(target, shards, tmp_path / "first", family=family, epochs=3)
    export(first, parts, tmp_path / "m.gguf", "draft", "f32")
    second = go(target, shards, tmp_path / "second", family=family, epochs=1, start=tmp_path / "m.gguf", plan=barely)
    assert torch.equal(second.draft_tokens, first.draft_tokens)
    for name, value in first.state_dict().items():
        assert torch.allclose(second.state_dict()[name], value, atol=1e-4), name


def test_what_a_run_begins_from_has_to_fit(target, shards, tmp_path):
    draft = go(target, shards, tmp_path / "first", epochs=1)
    export(draft, read_target(target), tmp_path / "m.gguf", "draft", "f32")
    for start in (tmp_path / "first", tmp_path / "m.gguf"):
        with pytest.raises(ValueError, match=r"its draft has family dgf, not family eagle; ask for the same shape"):
            go(target, shards, tmp_path / "other", family="eagle", epochs=1, start=start)
    shape, plan = Shape("dgf", ffn_width=32, draft_vocab=8), Schedule(epochs=1, rows=64)
    with pytest.raises(ValueError, match="has own_head True, not own_head False"):
        train_draft(target, shards, tmp_path / "other", shape, Objective(), plan, held_out=5, start=tmp_path / "m.gguf")
    with pytest.raises(ValueError, match=r"no best\.pt; expected the folder of a run"):
        go(target, shards, tmp_path / "other", start=tmp_path)
    (tmp_path / "bad.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:100])
    with pytest.raises(ModelFileError):
        go(target, shards, tmp_path / "other", start=tmp_path / "bad.gguf")


def test_a_head_of_its_own_can_come_later(target, shards, tmp_path):
    parts, shape, usual = read_target(target), Shape("dgf", ffn_width=32, draft_vocab=8), Schedule(epochs=2, rows=64)
    first = train_draft(target, shards, tmp_path / "first", shape, Objective(unroll=2), usual, held_out=5)
    export(first, parts, tmp_path / "m.gguf", "draft", "f32")
    barely = Schedule(epochs=1, rows=64, rate=1e-7, fine_rate=1e-7)
    for start in (tmp_path / "first", tmp_path / "m.gguf"):
        second = go(target, shards, tmp_path / f"from-{start.name}", epochs=1, start=start, plan=vars(barely))
        assert second.config.own_head
        wanted = torch.from_numpy(parts.head)[first.draft_tokens]
        assert torch.allclose(second.head.weight, wanted, atol=1e-4)


def test_rounding_is_that_of_the_file():
    matrix = np.random.default_rng(3).normal(0, 1, (40, 64)).astype(np.float32)
    matrix *= 10.0 ** np.linspace(-6, 3, 40, dtype=np.float32)[:, None]
    matrix[0], matrix[1, :32] = 0.25, 0.0  # blocks of one value
    stored = draft_file.as_stored({"m": matrix}, "q4_1")["m"]
    assert np.array_equal(q4_1(torch.from_numpy(matrix)).numpy(), stored)


def test_a_coarse_file_is_as_good_as_its_training_said(target, shards, tmp_path):
    plan = {"weights": "q4_1", "bf16": False}
    draft = go(target, shards, tmp_path / "run", epochs=6, plan=plan)
    assert not torch.equal(draft.head.weight, q4_1(draft.head.weight))  # what learns is finer than what is stored
    parts, held_out = read_target(target), split(load_sequences(shards, [-1]), 5)[1]
    export(draft, parts, tmp_path / "m.gguf", "draft", "q4_1")
    best = max(read_log(tmp_path / "run"), key=lambda entry: entry["score"])
    found = evaluate(load_draft(tmp_path / "m.gguf", parts), aligned(held_out, Schedule().most_context))
    assert found.tree_tau[8] == pytest.approx(best["score"], rel=1e-6)
    assert found.agreement == pytest.approx(best["agreement"], rel=1e-6)
    learnt = dict(draft.named_parameters())
    with rounded(draft, "q4_1"):
        assert torch.equal(learnt["head.weight"], load_draft(tmp_path / "m.gguf", parts).head.weight)
    with rounded(draft, "q8_0"):
        assert not torch.equal(draft.head.weight, q4_1(draft.head.weight))


def test_collecting_goes_on_where_it_was_stopped(tmp_path):
    budget = Budget(shard_tokens=60)
    with pytest.raises(RuntimeError):
        collect(Counting(4, fail_at=12), circles(20), tmp_path, [-1, 1], 3, budget)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2  # of five texts each
    engine = Counting(4)
    assert collect(engine, circles(20), tmp_path, [-1, 1], 3, budget) == (20, 280, True)
    assert engine.asked == 10
    engine = Counting(4)
    assert collect(engine, circles(22), tmp_path, [-1, 1], 3, budget) == (22, 308, True)
    assert engine.asked == 2
    engine = Counting(4)  # the last shard was not full
    assert collect(engine, circles(24), tmp_path, [-1, 1], 3, budget) == (24, 336, True)
    assert engine.asked == 4
    found = load_sequences(tmp_path, [1])
    assert [s.tokens.tolist() for s in found] == [text.tokens for text in circles(24)]
    assert found[0].features.shape == (14, 4)
    assert len(list(tmp_path.glob("texts-*.safetensors"))) == 5
    found = collect(Counting(4), circles(60), tmp_path, [-1, 1], 3, Budget(60, most_bytes=20000))
    assert not found.whole
    assert 25 <= found.texts == 5 * len(list(tmp_path.glob("*.safetensors"))) < 60


def test_long_texts_are_cut_and_hopeless_ones_left_out(tmp_path):
    texts = [Text([0] * 50, 3), Text([0] * 50, 19), Text([1] * 4, 3)]
    collect(Counting(4), texts, tmp_path, [-1], 2, Budget(most_tokens=20))
    assert [len(s.tokens) for s in load_sequences(tmp_path, [-1])] == [20]


def test_a_folder_is_of_one_target_with_its_taps(tmp_path):
    collect(Counting(4), circles(5), tmp_path, [-1], 3, Budget())
    other = Counting(4)
    other.info = {"path": "/somewhere/else.gguf"}
    with pytest.raises(ValueError, match=r"holds target m\.gguf, not target else\.gguf; take another folder"):
        collect(other, circles(5), tmp_path, [-1], 3, Budget())
    for shards_only in (False, True):
        if shards_only:
            (tmp_path / "collected.json").unlink()
        with pytest.raises(ValueError, match=r"holds taps \[-1\], top_k 3, not taps \[-1, 2\], top_k 4"):
            claim(tmp_path, Counting(4), [-1, 2], 4)
    assert collect(Counting(4), circles(5), tmp_path, [-1], 3, Budget()).texts == 5


def test_a_target_that_no_draft_can_be_trained_for_is_refused_before_it_answers(tmp_path, capsys):
    assert command(["train", "collect", str(tmp_path), str(tmp_path / "data")]) == 2
    assert "a draft is trained for a .gguf file, found a folder" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_second_look_at_answers_gives_the_shards_that_were_recorded(tmp_path):
    target, shape = tmp_path / "m.gguf", config("llama", layers=2)
    files, _ = make(np.random.default_rng(1), shape, "Q8_0", "Q8_0")
    write_gguf(target, {**shape, "chat_template": "{{ messages[0].content }}"}, files)
    (tmp_path / "p.jsonl").write_text("\n".join(f'{{"prompt": "What is {n}?"}}' for n in range(7)))
    options = ["--answers", "5", "--prompts", str(tmp_path / "p.jsonl"), "--max-tokens", "12", "--top-k", "4"]
    ask = ["train", "collect", str(target), str(tmp_path / "data"), "--taps", "-1,1", "--threads", "1", *options]
    shards = [tmp_path / "data" / f"{name}-00000.safetensors" for name in ("answers", "given-answers")]
    found = []
    for _ in range(2):
        assert command(ask) == 0
        found.append([load_file(path) for path in shards])
        for path in shards:
            path.unlink()
    for recorded, looked in zip(*found, strict=True):
        assert recorded["features"].any(1).sum() == len(recorded["tokens"]) - len(recorded["learn_from"])
        assert all((value == looked[name]).all() for name, value in recorded.items())
    assert command([*ask, "--max-gb", "0.000001"]) == 0
    assert not any(path.exists() for path in shards)


class Scripted:
    """A draft that guesses, in each step, a fixed order of tokens."""

    most_steps, tokens_read = 2, 1

    def __init__(self, orders, vocab):
        self.orders, self.row_of = orders, torch.arange(vocab)

    def begin(self, features, tokens, present, start):
        return torch.zeros(tokens[:, start:].shape), []

    def extend(self, state, tokens, columns, step, seen, present):
        return state + 1

    def logits(self, state, step):
        scores = torch.zeros(3, 4)
        for step, order in enumerate(self.orders):
            for rank, token in enumerate(order):
                scores[step, token] = -rank
        return scores[state[:, 0].long()]


def test_acceptance_and_tau_by_hand():
    # One text 0 1 2 3 0 1; rows of tokens 0 to 4 are to say token c + 2 + step. Always guessed: 2, else 3; 3, else 1.
    source = Sequence(
        np.array([0, 1, 2, 3, 0, 1]), 1, np.zeros((6, 1)), np.zeros((6, 1), int), np.zeros((6, 1)),
    )  # fmt: skip
    draft = Scripted([[2, 3, 0, 1], [3, 1, 2, 0]], 4)
    found = evaluate(draft, [make_batch([source])], depth=2, nodes=(1, 2))
    # rows: (2, 3): ranks 0 0; (3, 0): 1 3; (0, 1): 2 1; (1, -): 3 past the end
    assert found.rows == 4
    assert found.acceptance == [0.25, 1.0]
    assert found.agreement == [0.25, 1 / 3]
    assert found.chain_tau == 1 + (2 + 0) / 2  # the walk: row 0 takes two and the bonus, row 3 none
    assert found.covered == 1.0
    # trees are made of rows 0 and 2 (paths 0, 00, 2, 21) and scored on rows 1 and 3 (paths 1, 13, 3)
    assert found.tree_tau == {1: 1.0, 2: 1.0}


def test_the_file_holds_what_the_model_holds(target, shards, tmp_path):
    parts = read_target(target)
    drafts = (("dgf", False), ("eagle", True), ("eagle3", True), ("medusa", True), ("hydra", False), ("hydra++", True))
    for family, own in (*drafts, ("chimera", True), ("falcon", False)):
        shape = Shape(
            family, blocks=1 if family in ("chimera", "falcon") else 2, ffn_width=32, draft_vocab=8, own_head=own
        )
        schedule = Schedule(epochs=1, rows=64, rate=0.1)
        draft = train_draft(target, shards, tmp_path / family, shape, Objective(unroll=4), schedule, held_out=5)
        blocks = {"medusa": 0, "hydra": 0, "hydra++": 1, "chimera": 1, "falcon": 1}.get(family, 2)
        path = tmp_path / f"{family}.gguf"
        assert export(draft, parts, path, "a name", licence="Apache-2.0") == path.stat().st_size
        reader = gguf.GGUFReader(path)
        fields = {key: field.contents() for key, field in reader.fields.items()}
        assert fields["general.architecture"] == "forerun-draft"
        assert fields["forerun.draft.family"] == family.removesuffix("++")
        assert fields["forerun.draft.taps"] == [-1]
        assert fields["forerun.draft.blocks"] == blocks
        assert fields["forerun.draft.target.vocab"] == parts.vocab
        assert fields["forerun.draft.target.tokenizer"] == _core.Tokenizer(str(target)).fingerprint
        assert fields["forerun.draft.target.name"] == parts.name != ""
        wanted, rounded = tensors(draft), as_stored(draft)
        stacked = family in ("medusa", "hydra", "hydra++")
        assert ("head.weight" in wanted) == (own and not stacked)
        assert sum(name.endswith(".head.weight") for name in wanted) == (4 if own and stacked else 0)
        found = {tensor.name: tensor for tensor in reader.tensors}
        assert set(found) == {*wanted, "draft_tokens"}
        assert found["draft_tokens"].data.tolist() == draft.draft_tokens.tolist()
        for name, value in wanted.items():
            read = dequantize(found[name].data, found[name].tensor_type).reshape(value.shape)
            assert (read == rounded[name]).all()
            assert np.abs(read - value).max() <= np.abs(value).max() / 200


def test_the_command_trains_draws_and_writes(target, shards, tmp_path, capsys):
    file = tmp_path / "d.gguf"
    options = "--family dgf --ffn-width 32 --draft-vocab 8 --epochs 2 --rows 64 --held-out 5 --validate-every 3"
    assert command(["train", "draft", str(target), str(shards), str(file), *options.split()]) == 0
    assert "validation tau" in capsys.readouterr().out
    assert (tmp_path / "d.run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "d.run" / "settings.json").read_text())["draft"]["family"] == "dgf"
    assert command(["train", "draft", str(target), str(tmp_path), str(file)]) == 2
    assert "no shards" in capsys.readouterr().err
    again = ["--weights", "q4_0"]
    assert command(["train", "draft", str(target), str(shards), str(file), *again]) == 2
    assert "weights: expected q8_0" in capsys.readouterr().err
    assert command(["train", "draft", str(target), str(shards), str(tmp_path / "no" / "d.gguf")]) == 2
    assert "FILE: no such folder" in capsys.readouterr().err
    short = [*options.split(), "--validate-every", "1000", "--epochs", "50", "--hours", "1e-9"]
    assert command(["train", "draft", str(target), str(shards), str(tmp_path / "e.gguf"), *short]) == 0
    assert "stopped before the first validation" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--draft-vocab 0", "draft_vocab: expected an integer from 1 up"),
        ("--ffn-width 33", "ffn_width: expected a multiple of 32"),
        ("--epochs 0", "epochs: expected an integer from 1 up"),
        ("--patience -1", "patience"),
        ("--rate nan", "rate: expected a finite number"),
        ("--floor 2", "floor"),
        ("--noise nan", "noise"),
        ("--law-loss -1", "law"),
        ("--hours nan", "hours"),
        ("--threads 0", "--threads: expected at least 1"),
    ],
)
def test_options_that_make_no_draft_are_refused_by_name(target, shards, tmp_path, capsys, options, reason):
    file = tmp_path / "d.gguf"
    arguments = ["train", "draft", str(target), str(shards), str(file), "--family", "dgf", *options.split()]
    assert command(arguments) == 2
    assert reason in capsys.readouterr().err
    assert not file.exists()


def test_prompts_that_are_missing_are_noticed_before_the_target_is_loaded(target, tmp_path, capsys):
    missing = str(tmp_path / "no.jsonl")
    assert command(["train", "collect", str(target), str(tmp_path / "data"), "--prompts", missing]) != 0
    assert "no.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert command(["train", "collect", str(target), str(tmp_path / "data"), "--answers", "-1"]) == 2
    assert "--answers: expected at least 0" in capsys.readouterr().err


def test_the_target_itself_is_collected_from(target, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("A text of its own. " * 4)
    options = ["--answers", "0", "--text", str(text), "--taps", "-1,1", "--threads", "1"]
    assert command(["train", "collect", str(target), str(tmp_path / "data"), *options]) == 0
    assert "1 texts, 76 tokens, 1 shards" in " ".join(capsys.readouterr().out.split())
    (found,) = read_shard(tmp_path / "data" / "texts-00000.safetensors")
    assert bytes(found.tokens.tolist()).decode() == text.read_text()
    assert found.features.shape == (len(found.tokens), 2 * read_target(target).width)
    assert command(["train", "collect", str(target), str(tmp_path / "cut"), *options, "--most-tokens", "30"]) == 0
    found = load_sequences(tmp_path / "cut", [1])
    assert [len(one.tokens) for one in found] == [30, 30, 16]
    assert bytes(np.concatenate([one.tokens for one in found]).tolist()).decode() == text.read_text()
    assert command(["train", "collect", str(target), str(tmp_path / "cut"), *options, "--top-k", "5"]) == 2
    assert "holds top_k 16, not top_k 5" in capsys.readouterr().err
