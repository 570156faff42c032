"""Parts of the target: how often they agree with it, and the search for layers to leave out."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from forerun import layers
from reference import hidden_states, linear, rms_norm, side_by_side
from test_logits import config
from tiny_files import make, write_gguf

TOKENS = [int(token) for token in np.random.default_rng(5).integers(0, 256, 150)]  # two chunks


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("layers") / "m.gguf"
    shape = config("qwen2", layers=3)
    files, weights = make(np.random.default_rng(8), shape, "F32", "F32")
    write_gguf(path, shape, files)
    return path, shape, weights


def test_the_first_layers_agree_as_often_as_the_reference_decoder_says(tiny):
    path, shape, weights = tiny
    streams = hidden_states(shape | {"kept": np.float32}, weights, TOKENS)

    def choices(stream):
        return linear(weights, "output", stream).argmax(-1)

    normed = [rms_norm(stream, weights.values["output_norm.weight"], shape["epsilon"]) for stream in streams[:3]]
    expected = [float((choices(stream) == choices(streams[3])).mean()) for stream in normed]
    with forerun.Engine(path, draft="none", threads=1, kv_type="f32") as engine:
        found = engine.layer_agreement(TOKENS, [[], [0], [0, 1], [0, 1, 2]])
    assert found[:3] == pytest.approx(expected, abs=1e-9)
    assert found[3] == 1.0
    assert 0.0 < found[2] < 1.0


def test_agreement_is_how_often_the_first_guess_of_early_exit_is_right(tiny):
    path, _, _ = tiny
    text, start, right = TOKENS[:70], 30, 0
    with forerun.Engine(
        path,
        draft="early-exit",
        policy="chain",
        fixed_draft=1,
        threads=1,
        method_options={"early-exit.skip": "0"},
    ) as engine:
        for length in range(start + 1, len(text) + 1):
            session = engine.session()
            session.append(text[:length])
            session.step()
            right += session.stats.accepted
        whole = engine.layer_agreement(text, [[1, 2]])[0] * len(text)
        before = engine.layer_agreement(text[:start], [[1, 2]])[0] * start
    assert right == round(whole - before)


@pytest.mark.parametrize("sets", [[[1, 0]], [[0, 0]], [[3]], [[-1]], ["01"], [[10**20]]])
def test_what_is_not_a_part_of_the_target_is_refused(tiny, sets):
    with forerun.Engine(tiny[0], draft="none", threads=1) as engine:
        with pytest.raises(ValueError, match="layer"):
            engine.layer_agreement(TOKENS, sets)
        with pytest.raises(ValueError, match="empty"):
            engine.layer_agreement([], [[0]])


GROUPINGS = {"0-1": [(0, 1)], "1-2": [(1, 2)], "0-2": [(0, 2)], "1": [], "": []}


def test_layers_side_by_side_agree_as_often_as_the_reference_decoder_says(tiny):
    path, shape, weights = tiny
    shape = shape | {"kept": np.float32}
    whole = linear(weights, "output", hidden_states(shape, weights, TOKENS)[-1]).argmax(-1)
    expected = []
    for groups in GROUPINGS.values():
        state, _ = side_by_side(shape, weights, TOKENS, groups)
        expected.append(float((linear(weights, "output", state).argmax(-1) == whole).mean()))
    with forerun.Engine(path, draft="none", threads=1, kv_type="f32") as engine:
        found = engine.parallel_agreement(TOKENS, list(GROUPINGS))
        assert layers.parallel(engine, [TOKENS[:70], TOKENS[:70]], ["0-2"]) == pytest.approx(
            engine.parallel_agreement(TOKENS[:70], ["0-2"])
        )
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[3:] == [1.0, 1.0]
    assert 0.0 < found[2] < found[1] < 1.0


def test_agreement_of_layers_side_by_side_is_how_often_the_second_guess_stays(tiny):
    path, _, _ = tiny
    text, start = TOKENS[:60], 30
    options = {"policy": "chain", "fixed_draft": 2, "threads": 1, "kv_type": "f16"}
    same = 0
    with forerun.Engine(path, draft="none", threads=1) as whole:
        # The first guess is exact, so that the second is made of one grouped row after an exact text.
        texts = [[*text[:length], whole.generate(text[:length], max_tokens=1).tokens[0]] for length in range(start, 60)]
        agreement = [whole.parallel_agreement(one, ["0-2"])[0] * len(one) for one in texts]
        before = [whole.parallel_agreement(one[:-1], ["0-2"])[0] * (len(one) - 1) for one in texts]
    with forerun.Engine(path, draft=f"model:{path}", method_options={"model.parallel_layers": "0-2"}, **options) as own:
        for one in texts:
            session = own.session()
            session.append(one[:-1])
            session.step()
            assert session.stats.accepted >= 1
            same += session.stats.accepted == 2
    assert same == round(sum(agreement) - sum(before))
    assert 0 < same < len(texts)


@pytest.mark.parametrize("groups", [["0-3"], ["2-1"], ["x"], [3], ["0"]])
def test_groups_that_a_model_cannot_have_are_refused(tiny, groups):
    with forerun.Engine(tiny[0], draft="none", threads=1) as engine, pytest.raises(ValueError):
        engine.parallel_agreement(TOKENS, groups)


def test_the_command_measures_layers_side_by_side(tiny, capsys):
    from forerun.cli import run

    assert run(["layers", str(tiny[0]), "--parallel", "0-2", "--parallel", "1", "--threads", "1"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [row[1].strip() for row in rows] == ["0-2", "1"]
    assert rows[1][2].strip() == "1.000"


class WeighedLayers:
    """Stands in for an engine: a part agrees by the weights of its layers."""

    def __init__(self):
        self.info = {"layers": 5}

    weights = (5.0, 0.5, 3.0, 0.25, 1.0)

    def layer_agreement(self, tokens, sets):
        return [sum(self.weights[layer] for layer in kept) / sum(self.weights) for kept in sets]


def test_the_search_leaves_out_what_matters_least():
    seen = []
    choice = layers.choose(WeighedLayers(), [[1, 2], [3]], 3, lambda done, of: seen.append((done, of)))
    assert choice.skipped == (3, 1, 4)
    assert choice.agreement == pytest.approx([9.5 / 9.75, 9 / 9.75, 8 / 9.75])
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [choice.option(n) for n in (1, 2, 3)] == ["3", "1,3", "1,3-4"]
    for skip in (0, 5):
        with pytest.raises(ValueError, match="skip is"):
            layers.choose(WeighedLayers(), [[1]], skip)


def test_the_command_prints_options_that_the_engine_takes(tiny, capsys):
    from forerun.cli import run

    assert run(["layers", str(tiny[0]), "--skip", "2", "--threads", "1"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [row[1].strip() for row in rows] == ["1", "2"]
    option = {"early-exit.skip": rows[1][3].strip()}
    with forerun.Engine(tiny[0], draft="early-exit", threads=1, method_options=option) as engine:
        assert engine.generate("ab", max_tokens=4).tokens
