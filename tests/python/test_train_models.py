"""Shift, batches, models and losses of training, against plain NumPy."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

from forerun.train import losses  # noqa: E402
from forerun.train.config import DraftConfig  # noqa: E402
from forerun.train.data import groups, make_batch, split  # noqa: E402
from forerun.train.drafts import make_draft  # noqa: E402
from forerun.train.models import draft_vocabulary  # noqa: E402
from forerun.train.shards import Sequence, read_shard, shard_sequences, write_shard  # noqa: E402
from forerun.train.unroll import Objective, batch_loss, glanced, steps  # noqa: E402
from train_twins import Chain  # noqa: E402

VOCAB, WIDTH = 23, 8


def sequence(rng, length, learn_from, taps=1):
    return Sequence(
        rng.integers(0, VOCAB, length).astype(np.int32),
        learn_from,
        rng.normal(0, 1, (length, taps * WIDTH)).astype(np.float16),
        np.stack([rng.permutation(VOCAB)[:4] for _ in range(length)]).astype(np.int32),
        np.log(np.sort(rng.dirichlet(np.ones(5), length))[:, :0:-1]).astype(np.float16),
    )


def tiny(family, blocks=1, own_head=True, taps=(-1,), seed=0, **more):
    shape = {"heads": 4, "kv_heads": 2, "head_dim": 6, "ffn_width": 10, "taps": list(taps), "own_head": own_head}
    config = DraftConfig(family, WIDTH, blocks, **{**shape, **more})
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(VOCAB, WIDTH, generator=generator)
    head = torch.randn(VOCAB, WIDTH, generator=generator)
    draft = make_draft(config, embedding, head, torch.arange(0, VOCAB, 2), seed)
    for name, parameter in draft.named_parameters():
        if name.startswith(("medusa", "hydra", "trigram")):
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        elif "norm" in name or name.endswith("bias"):
            parameter.data = 1 + 0.3 * torch.randn(parameter.shape, generator=generator)
    return draft


def test_the_shift_is_that_of_decoding():
    rng = np.random.default_rng(0)
    a, b = sequence(rng, 9, 4), sequence(rng, 7, 1)
    batch = make_batch([a, b])
    columns = torch.arange(batch.start, batch.columns)
    for step in range(3):
        inputs = batch.inputs(step, columns, 3)
        assert (batch.inputs(step, columns) == inputs[..., 2:]).all()
        token, top, logprobs, counts = batch.wanted(step, columns)
        for row, source in enumerate([a, b]):
            for place in range(len(columns)):
                c = source.learn_from - 1 + place  # this row holds the feature of token c
                if c + 2 + step >= len(source.tokens):
                    assert not counts[row, place]
                    continue
                assert counts[row, place]
                assert inputs[row, place].tolist() == [source.tokens[max(0, c + at + step)] for at in (-1, 0, 1)]
                assert token[row, place] == source.tokens[c + 2 + step]
                assert (top[row, place].numpy() == source.top_tokens[c + 1 + step]).all()
                assert np.allclose(logprobs[row, place], source.top_logprobs[c + 1 + step].astype(np.float32))
                assert np.allclose(batch.features[row, columns[place]], source.features[c])


class Copier(torch.nn.Module):
    """A draft whose output is read off its input token: right only when tokens and features are shifted as agreed."""

    tokens_read = 1

    def __init__(self, features_of_token, draft):
        super().__init__()
        self.table, self.row_of, self.head = features_of_token, draft.row_of, draft.head

    def begin(self, features, tokens, present, start):
        return self.table[tokens[:, start:, 0]], []

    def extend(self, state, tokens, columns, step, seen, present):
        return self.table[tokens[..., 0]]

    def foretold(self, state, step):
        return state

    def readout(self, state, step):
        return state, self.head.weight


def copyable(count=3):
    """Texts in which the feature of a token is a function of that token alone."""
    rng = np.random.default_rng(5)
    table = rng.normal(0, 1, (VOCAB, WIDTH)).astype(np.float16)
    found = []
    for length in range(8, 8 + count):
        source = sequence(rng, length, 3)
        found.append(Sequence(source.tokens, 3, table[source.tokens], source.top_tokens, source.top_logprobs))
    return table, found


def test_a_draft_that_foretells_the_next_feature_has_no_feature_loss():
    table, texts = copyable()
    copier = Copier(torch.from_numpy(table.astype(np.float32)), tiny("dgf"))
    objective = Objective(unroll=3, law=0.0, feature=1.0)
    assert batch_loss(copier, make_batch(texts), objective)[0] == 0


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_token_in_the_wrong_place_shows_in_the_feature_loss(shift):
    table, texts = copyable()
    moved = [Sequence(np.roll(t.tokens, shift), t.learn_from, t.features, t.top_tokens, t.top_logprobs) for t in texts]
    copier = Copier(torch.from_numpy(table.astype(np.float32)), tiny("dgf"))
    assert batch_loss(copier, make_batch(moved), Objective(unroll=3, law=0.0, feature=1.0))[0] > 0.1


@pytest.mark.parametrize(
    ("family", "blocks", "taps", "more"),
    [
        ("dgf", 1, (-1,), {}),
        ("dgf", 3, (-1,), {}),
        ("eagle", 1, (-1,), {}),
        ("eagle3", 1, (0, 2, 5), {}),
        ("eagle3", 2, (-1,), {}),
        ("medusa", 0, (-1,), {"stacks": 3}),
        ("medusa", 0, (-1,), {"stacks": 3, "stack_layers": 2, "own_head": False}),
        ("hydra", 0, (-1,), {"stacks": 3}),
        ("hydra", 1, (-1,), {"stacks": 3, "stack_layers": 3, "own_head": False}),
        ("chimera", 1, (-1,), {}),
        ("chimera", 1, (-1,), {"own_head": False}),
        ("falcon", 1, (-1,), {"span": 2}),
        ("falcon", 1, (-1,), {"span": 3, "own_head": False}),
    ],
)
def test_unrolled_rows_are_those_of_a_decoder_with_a_cache(family, blocks, taps, more):
    rng = np.random.default_rng(1)
    texts = [sequence(rng, 9, 4, len(taps)), sequence(rng, 7, 2, len(taps))]
    draft = tiny(family, blocks, taps=taps, **more)
    batch = make_batch(texts)
    depth = min(5, draft.most_steps)
    tensors = {name: value.numpy() for name, value in draft.state_dict().items()}
    found = {}
    with torch.no_grad():
        for step, columns, state in steps(draft, batch, depth):
            logits = draft.logits(state, step)
            for row in range(2):
                for place, column in enumerate(columns.tolist()):
                    found[step, row, column] = (state[row, place].numpy(), logits[row, place].numpy())
    compared = 0
    for row, source in enumerate(texts):
        stable = Chain(tensors, asdict(draft.config), draft.embedding.numpy())
        stable.last = [source.tokens[0]]
        pad = batch.start - (source.learn_from - 1)
        for c in range(len(source.tokens) - 1):
            state = stable.row(source.features[c], source.tokens[c + 1], own=False)
            chain = stable.fork()
            for step in range(depth):
                if step and c + 1 + step < len(source.tokens):
                    state = chain.row(state, source.tokens[c + 1 + step], own=True)
                if c < source.learn_from - 1 or c + 1 + step >= len(source.tokens):
                    continue
                torch_state, torch_logits = found[step, row, c + pad]
                assert np.abs(torch_state - state).max() < 1e-4, (row, c, step)
                assert np.abs(torch_logits - stable.logits(state, step)).max() < 1e-4
                compared += 1
    assert compared > 15


def test_falcon_is_shown_answers_for_a_share_of_its_wrong_guesses():
    draft = tiny("falcon", span=2)
    batch = make_batch([sequence(np.random.default_rng(8), 30, 2), sequence(np.random.default_rng(9), 21, 3)])
    wrong = torch.zeros(2)
    for step, columns, state in steps(draft, batch, 2):
        token, _, _, counts = batch.wanted(step, columns)
        best = draft.draft_tokens[draft.logits(state, step).argmax(-1)]
        wrong += ((best != token) & counts).sum(-1) / 2
    for share in (0.0, 0.3, 1.0):
        torch.manual_seed(1)
        found = glanced(draft, batch, share)
        for row in range(2):
            changed = torch.nonzero((found.features[row] != batch.features[row]).any(-1)).flatten()
            most = int(batch.present[row, batch.start :].sum()) - 2
            assert len(changed) <= most
            assert len(changed) == min(2 * round(share * wrong[row].item() / 2), most // 2 * 2)
            assert (changed[::2] + 1 == changed[1::2]).all()
            assert ((changed[::2] - batch.start) % 2 == 0).all()
            assert (found.features[row, changed] == batch.features[row, changed + 2]).all()
            assert (found.tokens[row, changed + 1] == batch.tokens[row, changed + 3]).all()
            same = torch.ones(batch.columns, dtype=torch.bool)
            same[changed] = False
            assert (
                found.tokens[row, 1 : batch.columns + 1][same] == batch.tokens[row, 1 : batch.columns + 1][same]
            ).all()
    torch.manual_seed(1)
    read = glanced(draft, batch, 0.5)
    torch.manual_seed(1)
    loss, shown = batch_loss(draft, batch, Objective(unroll=2, glance=1.0), done=0.5)
    wanted = 0.0
    for step, columns, state in steps(draft, batch, 2, read=read):
        _, top, logprobs, counts = batch.wanted(step, columns)
        rows, p, learn = losses.target_law(top[counts], logprobs[counts], draft.row_of)
        law = draft.logits(state[counts], step).log_softmax(-1)
        mean = -(p * law.gather(1, rows)).sum(-1)[learn].mean().item()
        assert shown[step] == pytest.approx(mean, rel=1e-4)
        wanted += 0.8**step * mean
    assert loss.item() == pytest.approx(wanted, rel=1e-4)
    assert batch_loss(draft, batch, Objective(unroll=2, glance=1.0), done=1.0)[0] != loss


def test_what_chimera_foresees_is_what_its_feature_loss_is_of():
    draft = tiny("chimera")
    batch = make_batch([sequence(np.random.default_rng(8), 9, 2), sequence(np.random.default_rng(9), 6, 3)])
    found, _ = batch_loss(draft, batch, Objective(unroll=2, law=0.0, text=0.0, feature=1.0))
    without, _ = batch_loss(draft, batch, Objective(unroll=2, law=0.0, text=0.0))
    wanted = 0.0
    for step, columns, state in steps(draft, batch, 2):
        counts = batch.wanted(step, columns)[3]
        true = torch.nn.functional.pad(batch.features, (0, 0, 0, 2))[:, columns + 1 + step]
        wanted += 0.8**step * torch.nn.functional.smooth_l1_loss(state[counts][:, :WIDTH], true[counts]).item()
    assert (found - without).item() == pytest.approx(wanted, rel=1e-5)


def test_a_new_chimera_reads_what_it_foresees_as_the_targets_head_would():
    config = DraftConfig("chimera", WIDTH, 1, heads=2, kv_heads=1, head_dim=4, ffn_width=8, own_head=True)
    embedding = torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(1))
    draft = make_draft(config, embedding, 2 * embedding, torch.arange(VOCAB), 0)
    batch = make_batch([sequence(np.random.default_rng(7), 8, 2)])
    for step, _, state in steps(draft, batch, 2):
        assert torch.allclose(draft.logits(state, step), draft.foretold(state, step) @ (2 * embedding).T, atol=1e-5)
        assert draft.trigram["block"].weight.abs().max() == 0


def test_what_lies_before_the_kept_context_does_not_count():
    rng = np.random.default_rng(2)
    long = sequence(rng, 12, 7)
    cut = Sequence(long.tokens[4:], 3, long.features[4:], long.top_tokens[4:], long.top_logprobs[4:])
    draft = tiny("dgf")
    objective = Objective(unroll=2)
    assert torch.allclose(
        batch_loss(draft, make_batch([long], most_context=3), objective)[0],
        batch_loss(draft, make_batch([cut]), objective)[0],
    )


def test_padding_changes_no_loss():
    rng = np.random.default_rng(3)
    texts = [sequence(rng, length, learn_from) for length, learn_from in ((12, 6), (6, 1), (9, 2))]
    draft = tiny("eagle3")
    objective = Objective(unroll=1)
    alone = []
    for text in texts:
        loss, _ = batch_loss(draft, make_batch([text]), objective)
        batch = make_batch([text])
        _, top, logprobs, counts = batch.wanted(0, torch.arange(batch.start, batch.columns))
        learn = losses.target_law(top[counts], logprobs[counts], draft.row_of)[2]
        alone.append((loss.item(), int(learn.sum())))
    together = batch_loss(draft, make_batch(texts), objective)[0].item()
    assert together == pytest.approx(sum(a * n for a, n in alone) / sum(n for _, n in alone), rel=1e-5)


def test_the_law_is_kept_to_what_the_draft_can_say():
    row_of = torch.tensor([-1, 0, -1, 1, 2])
    top = torch.tensor([[3, 0, 4], [0, 1, 3], [1, 0, 2]])
    logprobs = torch.log(torch.tensor([[0.5, 0.3, 0.1], [0.6, 0.2, 0.1], [0.4, 0.3, 0.2]]))
    rows, p, learn = losses.target_law(top, logprobs, row_of)
    assert torch.allclose(p, torch.tensor([[5 / 6, 0, 1 / 6], [0, 2 / 3, 1 / 3], [1, 0, 0]]), atol=1e-6)
    assert learn.tolist() == [True, False, True]
    assert rows[0].tolist() == [1, 0, 2]


def test_the_cross_entropy_in_pieces_is_the_plain_one_and_so_are_its_slopes():
    rng = np.random.default_rng(4)
    count = 1200  # several pieces
    hidden, weight = rng.normal(0, 1, (count, 5)), rng.normal(0, 1, (9, 5))
    rows = np.stack([rng.permutation(9)[:3] for _ in range(count)])
    p = rng.dirichlet(np.ones(3), count)

    def plain(h, w):
        logits = h @ w.T
        law = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -(p * np.take_along_axis(law, rows, 1)).sum()

    h = torch.tensor(hidden, dtype=torch.float32, requires_grad=True)
    w = torch.tensor(weight, dtype=torch.float32, requires_grad=True)
    loss = losses.draft_law_loss(h, w, torch.from_numpy(rows), torch.tensor(p, dtype=torch.float32))
    assert loss.item() == pytest.approx(plain(hidden, weight), rel=1e-5)
    (2 * loss).backward()
    for tensor, place in ((h, (0, 1)), (h, (1100, 4)), (w, (3, 2)), (w, (8, 0))):
        shifted = []
        for sign in (1, -1):
            moved = [hidden.copy(), weight.copy()]
            moved[tensor is w][place] += sign * 1e-4
            shifted.append(plain(*moved))
        assert tensor.grad[place].item() == pytest.approx((shifted[0] - shifted[1]) / 1e-4, rel=2e-3, abs=1e-3)


def test_smooth_l1_by_hand():
    found = losses.feature_loss(torch.tensor([[0.0, 0.0], [1.0, 5.0]]), torch.tensor([[0.5, -2.0], [1.0, 5.0]]))
    assert found.item() == pytest.approx((0.5 * 0.25 + 1.5) / 2)


def test_a_head_that_is_the_targets_stays_as_it_is():
    draft = tiny("eagle3", own_head=False)
    before = draft.head.weight.clone()
    loss, _ = batch_loss(draft, make_batch([sequence(np.random.default_rng(6), 9, 2)]), Objective(unroll=2))
    loss.backward()
    assert draft.head.weight.grad is None
    assert (draft.head.weight == before).all()


def test_the_loss_on_the_texts_tokens_is_the_plain_cross_entropy():
    draft = tiny("hydra", 0, stacks=2)
    batch = make_batch([sequence(np.random.default_rng(8), 9, 2), sequence(np.random.default_rng(9), 6, 3)])
    found, shown = batch_loss(draft, batch, Objective(unroll=2, law=0.0, text=0.5))
    wanted = 0.0
    for step, columns, state in steps(draft, batch, 2):
        token, _, _, counts = batch.wanted(step, columns)
        rows = draft.row_of[token[counts]]
        plain = torch.nn.functional.cross_entropy(draft.logits(state[counts], step)[rows >= 0], rows[rows >= 0])
        assert shown[step] == pytest.approx(plain.item(), rel=1e-5)
        wanted += 0.8**step * 0.5 * plain.item()
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    both, _ = batch_loss(draft, batch, Objective(unroll=2, law=1.0, text=0.5))
    law, _ = batch_loss(draft, batch, Objective(unroll=2))
    assert both.item() == pytest.approx(wanted + law.item(), rel=1e-5)


def test_new_stacks_guess_as_the_targets_head_does_on_the_state():
    for family, more in (("medusa", {}), ("hydra", {"stack_layers": 2})):
        config = DraftConfig(family, WIDTH, 0, own_head=True, stacks=2, **more)
        embedding = torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(1))
        draft = make_draft(config, embedding, 2 * embedding, torch.arange(VOCAB), 0)
        batch = make_batch([sequence(np.random.default_rng(7), 8, 2)])
        for step, columns, state in steps(draft, batch, 2):
            assert torch.allclose(draft.logits(state, step), batch.features[:, columns] @ (2 * embedding).T, atol=1e-5)


def test_the_vocabulary_is_the_most_frequent_in_ascending_order():
    counts = torch.tensor([3, 9, 0, 9, 4, 3])
    assert draft_vocabulary(counts, 4).tolist() == [0, 1, 3, 4]
    assert draft_vocabulary(counts, 100).tolist() == [0, 1, 2, 3, 4, 5]


def test_an_epoch_has_every_text_once_in_an_order_of_its_seed():
    rng = np.random.default_rng(7)
    texts = [sequence(rng, int(length), 2) for length in rng.integers(4, 30, 60)]
    for index, text in enumerate(texts):
        text.tokens[0] = index % VOCAB

    def epoch(seed, number):
        return [make_batch(group).features.sum().item() for group in groups(texts, 40, seed, number)]

    total = sum(float(text.features.astype(np.float32).sum()) for text in texts)
    assert sum(epoch(0, 0)) == pytest.approx(total, abs=1e-2)
    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_held_out_texts_are_not_trained_on():
    rng = np.random.default_rng(8)
    texts = [sequence(rng, 5, 2) for _ in range(10)]
    train, validation = split(texts, 3)
    assert [texts.index(text) for text in validation] == [2, 5, 8]
    assert len(train) == 7
    with pytest.raises(ValueError, match="held_out"):
        split(texts, 1)


def test_shards_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(9)
    texts = [sequence(rng, 6, 2, taps=2), sequence(rng, 4, 1, taps=2)]
    path = tmp_path / "shard-00000.safetensors"
    write_shard(path, texts, [-1, 3], "m.gguf")
    assert shard_sequences(path) == 2
    for found, wanted in zip(read_shard(path, [3]), texts, strict=True):
        assert (found.tokens == wanted.tokens).all()
        assert found.learn_from == wanted.learn_from
        assert (found.features == wanted.features[:, WIDTH:]).all()
        assert (found.top_tokens == wanted.top_tokens).all()
        assert (found.top_logprobs == wanted.top_logprobs).all()
    swapped = next(iter(read_shard(path, [3, -1])))
    assert (swapped.features[:, WIDTH:] == texts[0].features[:, :WIDTH]).all()
    with pytest.raises(ValueError, match=r"not \[2\]"):
        next(iter(read_shard(path, [2])))


def test_shapes_that_no_draft_has_are_refused():
    with pytest.raises(ValueError, match="family"):
        DraftConfig("other", 8)
    with pytest.raises(ValueError, match="taps"):
        DraftConfig("dgf", 8, taps=[3])
    with pytest.raises(ValueError, match="blocks"):
        DraftConfig("dgf", 8, blocks=7)
    with pytest.raises(ValueError, match="blocks: expected 1 to 1 of chimera"):
        DraftConfig("chimera", 8, blocks=2)
    for family, span in (("falcon", 1), ("falcon", 5), ("dgf", 2)):
        with pytest.raises(ValueError, match=f"span: .* of {family}"):
            DraftConfig(family, 8, span=span)
    with pytest.raises(ValueError, match="glance"):
        Objective(glance=1.5)
    for family, shape in (("medusa", {"blocks": 1}), ("hydra", {"blocks": 2}), ("hydra", {"blocks": -1})):
        with pytest.raises(ValueError, match=f"blocks: expected 0 .* of {family}"):
            DraftConfig(family, 8, stacks=2, **shape)
    for family, stacks in (("medusa", 0), ("medusa", 9), ("dgf", 1)):
        with pytest.raises(ValueError, match="stacks"):
            DraftConfig(family, 8, int(family == "dgf"), stacks=stacks)
    with pytest.raises(ValueError, match="unroll"):
        Objective(unroll=12)
