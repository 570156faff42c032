"""Public draft heads become draft files; files that are damaged, malicious or of another target are refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest

import forerun
import needs
from draft_reference import draft_config, random_draft
from forerun import convert_draft
from forerun.cli import run
from forerun.tensor_files import read_tensors
from test_heads import CASES, SHAPE, TOKENS, largest_error, states_of, to_dict, trees, twin_of
from tiny_files import make, write_gguf, write_hf, write_safetensors

BLOCK = {name: stored for stored, name in convert_draft._BLOCK.items()}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("convert") / "target.gguf"
    files, weights = make(np.random.default_rng(21), SHAPE, "F32", "F32")
    write_gguf(path, SHAPE, files)
    return path, weights


def as_published(family: str, tensors: dict[str, np.ndarray], first: str = "layers.0") -> dict[str, np.ndarray]:
    """Our tensors under their authors' names."""
    out = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if name == "draft_tokens":
            out["d2t"] = value.astype(np.int64) - np.arange(len(value))
        elif name == "head.weight":
            out["lm_head.weight"] = value
        elif parts[0] == "dgf":
            out[{"w1": "W_1", "w2": "W_2", "gate": "W_z"}[parts[1]]] = value.T
        elif name == "token_norm.weight":
            out["input_layernorm.weight"] = value
        elif parts[0] == "medusa":
            out[f"{parts[1]}.2.weight" if parts[2] == "head" else f"{parts[1]}.{parts[3]}.linear.{parts[4]}"] = value
        elif parts[0] == "hydra":  # dropouts take the even places
            place = {"head": 0, "in": 1, "skip": 1, "block": 3}[parts[2]]
            role = {"head": "1", "in": "linear", "skip": "res_connection", "block": "linear"}[parts[2]]
            stem = f"hydra_lm_head.{parts[1]}" if parts[2] == "head" else f"hydra_mlp.{parts[1]}.{place}"
            out[f"{stem}.{role}.{parts[-1]}"] = value
        elif family == "hydra":
            stored = BLOCK.get(parts[2] if len(parts) > 3 else "")
            out[f"prefix_embeding_layer.layers.0.{stored}.weight" if stored else f"prefix_embeding_layer.{name}"] = (
                value
            )
        elif parts[0] == "block":
            layer = first if parts[1] == "0" else f"layers.{parts[1]}"
            stored = {"token_norm": "input_layernorm", "hidden_norm": "hidden_norm"}.get(parts[2]) or BLOCK[parts[2]]
            out[f"{layer}.{stored}.{parts[3]}"] = value
        else:
            out[name] = value
    return {name: np.ascontiguousarray(value) for name, value in out.items()}


def published_config(c: dict, **changes) -> dict:
    taps = [tap - 1 for tap in c["taps"]]
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "num_attention_heads": c["heads"],
        "rms_norm_eps": c["norm_epsilon"],
        "rope_theta": c["rope_base"],
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": taps} if c["family"] == "eagle3" else None,
        "norm_before_residual": c.get("norm_before_residual", False),
    } | changes


def save(folder, config: dict, tensors: dict[str, np.ndarray], kind: str = "safetensors"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if kind == "safetensors":
        names = {"float32": "F32", "float16": "F16", "int64": "I64", "bool": "BOOL"}
        write_safetensors(folder / "model.safetensors", {n: (v, names[str(v.dtype)]) for n, v in tensors.items()})
    else:
        (folder / "pytorch_model.bin").write_bytes(torch_file(tensors))
    return folder


def torch_file(tensors: dict[str, np.ndarray]) -> bytes:
    """What torch.save writes for a state dict, made without torch."""
    storages = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage", "bool": "BoolStorage"}
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*_):
        raise AssertionError

    rebuild.__module__, rebuild.__qualname__, utils._rebuild_tensor_v2 = "torch._utils", "_rebuild_tensor_v2", rebuild
    rebuild.__name__ = "_rebuild_tensor_v2"
    for name in storages.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    blobs: list[bytes] = []

    class Storage:
        def __init__(self, kind, key, size):
            self.id = ("storage", getattr(torch, storages[kind]), key, "cpu", size)

    class Tensor:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            value = self.value
            blobs.append(value.tobytes())
            stride = tuple(step // value.itemsize for step in value.strides)
            storage = Storage(str(value.dtype), str(len(blobs) - 1), value.size)
            return rebuild, (storage, 0, value.shape, stride, False, __import__("collections").OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, found):
            return found.id if isinstance(found, Storage) else None

    buffer = io.BytesIO()
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        Pickler(buffer, 2).dump({name: Tensor(np.ascontiguousarray(value)) for name, value in tensors.items()})
    finally:
        for name, module in kept.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return archive(buffer.getvalue(), blobs)


def archive(described: bytes, blobs=(), compression=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr("archive/data.pkl", described)
        for index, blob in enumerate(blobs):
            file.writestr(f"archive/data/{index}", blob)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("case", ["dgf of 3 blocks", "eagle", "eagle3", "eagle3 of 2 blocks"])
def test_a_published_head_drafts_what_its_twin_says(target, tmp_path, case, kind):
    path, weights = target
    c, _ = CASES[case]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS if c["family"] == "eagle3" else None, "3" in c["family"])
    published = as_published(c["family"], tensors, "midlayer" if case == "eagle3" else "layers.0")
    published |= {"embed_tokens.weight": np.zeros((4, 4), np.float32), "t2d": np.zeros(260, bool)}
    published = {("model." if kind == "bin" else "") + name: value for name, value in published.items()}
    folder = save(tmp_path / "head", published_config(c), published, kind)
    draft = tmp_path / "draft.gguf"
    assert run(["convert-draft", str(folder), str(draft), "--target", str(path), "--weights", "f16"]) == 0
    rounded = {n: v.astype(np.float16).astype(np.float32) if v.ndim == 2 else v for n, v in tensors.items()}
    twin = twin_of(weights, c, rounded)
    for text, tree in trees(path, draft, 2):
        states = states_of(weights, c, text)
        if c["family"] == "eagle3":
            assert largest_error(to_dict(tree), twin, text, states) < 2e-3
        else:  # candidates are 64 of 260 tokens: their shares are a little larger than the law's
            first = tree.nodes[1]
            law = twin.law(text[1:], states[: len(text) - 1], [])
            assert first.token == law.argmax()
            assert first.score == pytest.approx(law.max() / np.sort(law)[-64:].sum(), abs=2e-3)


@pytest.mark.parametrize("case", ["medusa", "hydra", "hydra with a block over the text"])
def test_a_published_medusa_or_hydra_drafts_what_its_twin_says(target, tmp_path, case):
    path, weights = target
    c = CASES[case][0] | {"rope_base": 10000.0}
    tensors = random_draft(np.random.default_rng(5), c, None, True)
    prefix = "medusa_head." if case == "medusa" else ""
    published = {prefix + name: value for name, value in as_published(c["family"], tensors).items()}
    folder = save(tmp_path / "head", published_config(c) if c["blocks"] else {}, published, "bin")
    (folder / "pytorch_model.bin").rename(folder / f"{c['family']}_lm_head.pt")
    draft = tmp_path / "draft.gguf"
    assert run(["convert-draft", str(folder), str(draft), "--target", str(path), "--weights", "f16"]) == 0
    twin = twin_of(weights, c, {n: v.astype(np.float16).astype(np.float32) for n, v in tensors.items()})
    for text, tree in trees(path, draft, 2):
        chains = {0: []}
        for index, node in enumerate(tree.nodes[1:], start=1):
            chains[index] = [*chains[node.parent], node.token]
            law = twin.law(text[1:], states_of(weights, c, text)[: len(text) - 1], chains[node.parent])
            share = law[node.token] / np.sort(law)[-64:].sum()  # candidates are 64 of 260 tokens
            assert node.score == pytest.approx(share, abs=5e-3)


def test_q8_0_is_the_default_and_half_the_size(target, tmp_path):
    c, _ = CASES["eagle3"]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, True)
    folder = save(tmp_path / "head", published_config(c), as_published("eagle3", tensors))
    for weights in ("q8_0", "f16"):
        convert_draft.convert_draft(folder, tmp_path / weights, str(target[0]), weights=weights)
        assert sum(len(tree.path) for _, tree in trees(target[0], tmp_path / weights, 2)) >= 2
    assert (tmp_path / "q8_0").stat().st_size < 0.6 * (tmp_path / "f16").stat().st_size
    kinds = {t["name"]: t["dtype"] for t in forerun._core.inspect(str(tmp_path / "q8_0"))["tensors"]}
    assert (kinds["fc.weight"], kinds["norm.weight"], kinds["draft_tokens"]) == ("Q8_0", "F32", "I32")


def test_a_missing_rope_theta_is_10000_and_missing_taps_are_low_middle_and_high():
    c = draft_config("eagle3") | {"target.layers": 30}
    config = published_config(c, eagle_config=None)
    del config["rope_theta"]
    tensors = as_published("eagle3", random_draft(np.random.default_rng(5), c, TOKENS, True))
    made, _ = convert_draft.convert(config, tensors, convert_draft.Target("t", 256, 30, 260, ""))
    assert made["rope_base"] == 10000.0
    assert made["taps"] == [2, 15, 27]


def test_a_head_whose_tokens_do_not_ascend_is_sorted():
    c = draft_config("eagle3")
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, True)
    shuffled = np.random.default_rng(1).permutation(len(TOKENS))
    mixed = tensors | {"draft_tokens": TOKENS[shuffled], "head.weight": tensors["head.weight"][shuffled]}
    target = convert_draft.Target("t", 256, 3, 260, "")
    _, found = convert_draft.convert(published_config(c), as_published("eagle3", mixed), target)
    assert (found["draft_tokens"] == TOKENS).all()
    assert (found["head.weight"] == tensors["head.weight"]).all()


def test_a_hugging_face_target_is_described_too(tmp_path):
    shape = SHAPE | {"architecture": "llama"}
    files, _ = make(np.random.default_rng(1), shape, "F32", "F32")
    write_hf(tmp_path / "m", shape, files)
    found = convert_draft.Target.of(str(tmp_path / "m"))
    assert (found.width, found.layers, found.vocab) == (256, 3, 260)
    assert len(found.tokenizer) == 16


@pytest.mark.parametrize(
    ("config", "drop", "change", "error", "reason"),
    [
        ({"rope_scaling": {"rope_type": "llama3"}}, None, {}, NotImplementedError, "rope_scaling"),
        ({"rope_scaling": 3}, None, {}, forerun.ModelFileError, "rope_scaling is 3, expected an object"),
        ({"rms_norm_eps": "x"}, None, {}, forerun.ModelFileError, "rms_norm_eps is 'x', expected a number"),
        ({"rope_theta": [1]}, None, {}, forerun.ModelFileError, "rope_theta"),
        ({"rope_theta": 0}, None, {}, forerun.ModelFileError, "rope_theta is 0"),
        ({"eagle_config": [1]}, None, {}, forerun.ModelFileError, "eagle_config"),
        (
            {"eagle_config": {"eagle_aux_hidden_state_layer_ids": ["a"]}},
            None,
            {},
            forerun.ModelFileError,
            "layer_ids is",
        ),
        ({"num_attention_heads": "four"}, None, {}, forerun.ModelFileError, "num_attention_heads is 'four'"),
        ({"num_attention_heads": 7}, None, {}, forerun.ModelFileError, "num_attention_heads"),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 1, 2]}}, None, {}, ValueError, "layers"),
        ({}, "layers.0.hidden_norm.weight", {"fc.weight": np.zeros((256, 256), np.float32)}, ValueError, "fc.weight"),
        ({}, "layers.0.self_attn.q_proj.weight", {}, forerun.ModelFileError, "q_proj.weight"),
        ({}, "norm.weight", {}, forerun.ModelFileError, "norm.weight"),
        ({}, "fc.weight", {}, forerun.ModelFileError, "fc.weight"),
        ({}, "d2t", {}, ValueError, "without d2t"),
        ({}, None, {"d2t": np.full(60, 300)}, ValueError, "d2t"),
        ({}, None, {"d2t": -np.arange(60)}, ValueError, "d2t"),
        ({}, None, {"layers.0.extra.weight": np.zeros(3)}, NotImplementedError, "extra"),
    ],
)
def test_heads_that_do_not_fit_are_refused_with_a_reason(config, drop, change, error, reason):
    c = draft_config("eagle3")
    tensors = as_published("eagle3", random_draft(np.random.default_rng(5), c, TOKENS, True))
    tensors.pop(drop, None)
    with pytest.raises(error, match=reason):
        convert_draft.convert(
            published_config(c) | config, tensors | change, convert_draft.Target("t", 256, 3, 260, "")
        )


class Evil:
    """A pickle that would run a command where it is loaded."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "evil",
    [
        lambda mark: Evil(os.system, f"touch {mark}"),
        lambda mark: Evil(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Evil(exec, f"open({str(mark)!r}, 'w')"),
        lambda mark: Evil(getattr, Evil(__import__, "os"), "system"),
        lambda mark: Evil(subprocess.check_call, ["touch", str(mark)]),
        lambda mark: Evil(np.lib.npyio.NpzFile, str(mark)),
    ],
    ids=["os.system", "eval", "exec", "getattr", "subprocess", "numpy"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(tmp_path, evil, protocol):
    mark = tmp_path / "mark"
    for described in ({"fc.weight": evil(mark)}, evil(mark), [evil(mark)]):
        (tmp_path / "head.bin").write_bytes(archive(pickle.dumps(described, protocol)))
        with pytest.raises(forerun.ModelFileError, match="refused"):
            read_tensors(tmp_path / "head.bin")
        assert not mark.exists()


def hand_written(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


@pytest.mark.parametrize(
    "described",
    [
        hand_written(b"}r\xff\xff\xff\xff"),  # a memo of 2**32 entries
        hand_written(b"ctorch._utils\n_rebuild_tensor_v2\n", b"(K\x01K\x00))t", b"R"),  # no storage
        hand_written(b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb"),  # state for a class
        hand_written(b"ctorch._utils\n_rebuild_parameter\n}X\x01\x00\x00\x00aK\x01sb"),  # state for a function
        hand_written(b"\x82\x01"),  # an extension code
        hand_written(b"(ios\nsystem\n"),  # INST
        hand_written(b"K\x01Q"),  # a reference that is not a storage
        b"",
        b"garbage",
        hand_written(b"]"),  # a list
    ],
)
def test_a_pickle_that_describes_no_tensors_is_refused(tmp_path, described):
    (tmp_path / "head.bin").write_bytes(archive(described))
    with pytest.raises(forerun.ModelFileError):
        read_tensors(tmp_path / "head.bin")
    code = "from collections import OrderedDict; assert not hasattr(OrderedDict, 'a')"
    exec(code)


def test_damaged_archives_and_safetensors_are_refused_or_read_but_never_crash(tmp_path):
    value = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.arange(3)}
    write_safetensors(
        tmp_path / "x.safetensors", {n: (v, {"f": "F32", "i": "I64"}[v.dtype.kind]) for n, v in value.items()}
    )
    (tmp_path / "x.bin").write_bytes(torch_file(value))
    rng, refused = np.random.default_rng(3), 0
    for name in ("x.safetensors", "x.bin"):
        whole = (tmp_path / name).read_bytes()
        for found in (read_tensors(tmp_path / name), value):
            assert all((found[key] == value[key]).all() for key in value)
        for _ in range(400):
            data = bytearray(whole)
            if rng.integers(3) == 0:
                data = data[: rng.integers(len(data))]
            for _ in range(rng.integers(1, 6)):
                if data:
                    data[rng.integers(len(data))] = rng.integers(256)
            (tmp_path / ("damaged" + name)).write_bytes(data)
            try:
                read_tensors(tmp_path / ("damaged" + name))
            except forerun.ModelFileError:
                refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F99"},
        {"shape": [3, 5]},
        {"shape": [-3, -4]},
        {"data_offsets": [0, 1 << 60]},
        {"data_offsets": [8, 4]},
    ],
)
def test_safetensors_whose_sizes_do_not_agree_are_refused(tmp_path, change):
    header = json.dumps({"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]} | change}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(48))
    with pytest.raises(forerun.ModelFileError):
        read_tensors(tmp_path / "x.safetensors")


def test_a_compressed_member_and_a_tensor_beyond_its_storage_are_refused(tmp_path):
    value = {"a": np.arange(12, dtype=np.float32)}
    with zipfile.ZipFile(io.BytesIO(torch_file(value))) as file:
        described, blob = file.read("archive/data.pkl"), file.read("archive/data/0")
    for data in (
        archive(described, [blob], zipfile.ZIP_DEFLATED),
        archive(described, [blob[:40]]),
        archive(described.replace(b"K\x0c\x85", b"K\x0d\x85"), [blob]),
        archive(described, []),
        b"not a zip archive",
    ):
        (tmp_path / "x.bin").write_bytes(data)
        with pytest.raises(forerun.ModelFileError):
            read_tensors(tmp_path / "x.bin")


def test_what_torch_writes_is_read(tmp_path):
    torch = needs.module("torch", "train")
    half = torch.arange(6).reshape(2, 3).to(torch.bfloat16)
    torch.save({"t": half.T, "p": torch.nn.Parameter(torch.ones(2)), "n": 3}, tmp_path / "x.bin")
    found = read_tensors(tmp_path / "x.bin")
    assert (found["t"] == half.T.float().numpy()).all()
    assert (found["p"] == 1).all()
    assert set(found) == {"t", "p"}
