"""Public draft heads as draft files: EAGLE-1/2/3, Dovetail's DGF, Medusa, Hydra and Kangaroo as their authors publish
them.

Names and shapes as in the authors' loaders: SafeAILab/EAGLE (cnets.py, cnets1.py), ddInference/Dovetail, the EAGLE-3
heads of SpecForge and vLLM, FasterDecoding/Medusa, zankner/Hydra,
Equationliu/Kangaroo. Weights are read, never executed (tensor_files.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forerun import _core
from forerun.draft_file import Target, write_draft
from forerun.tensor_files import read_tensors

_BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}
_STEMS = ("model", "pytorch_model", "medusa_lm_head", "hydra_lm_head")
_FILES = tuple(stem + ending for stem in _STEMS for ending in (".safetensors", ".bin", ".pt"))
_PREFIXES = ("model.", "medusa_head.", "hydra_head.")


def convert_draft(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: str,
    *,
    weights: str = "q8_0",
    exit_layer: int = 0,
) -> dict[str, Any]:
    """Writes the draft head of a folder or file as the draft file `out`; returns its metadata.

    source: a folder with config.json and model.safetensors, pytorch_model.bin, medusa_lm_head.pt or hydra_lm_head.pt,
        or such a file with config.json beside it.
    target: the model that it drafts for, a .gguf file or a Hugging Face folder.
    weights: "q8_0", "q4_1", "f16" or "f32".
    exit_layer: how many of the target's layers run before it; needed for Kangaroo, whose files do not say it.

    Raises forerun.ModelFileError for a file that is malformed or not a draft head, ValueError for one that does not
    fit the target, NotImplementedError for a feature that the runtime does not have.
    """
    if not Path(source).exists():
        raise _core.ModelFileError(f"{source}: no such file or folder")
    path = _weights_file(Path(source))
    config = _config(path.with_name("config.json"))
    tensors = _plain_names(read_tensors(path))
    metadata, found = convert(config, tensors, Target.of(target), exit_layer)
    write_draft(out, metadata, found, name=Path(source).stem, weights=weights)
    return metadata


def convert(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], target: Target, exit_layer: int = 0
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and tensors of a draft file for a head whose tensors have their authors' names."""
    family = family_of(tensors)
    if (family == "kangaroo") != (exit_layer > 0):
        raise ValueError(f"exit_layer: expected 1 or more for Kangaroo and 0 for others, found {exit_layer} ({family})")
    if family in ("medusa", "hydra"):
        return _convert_stacks(family, config, tensors, target)
    scaling = _object(config, "rope_scaling")
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise NotImplementedError(f"rope_scaling {scaling}: draft heads rotate without scaling")
    found = _blocks(tensors, keeps_first_norm=family == "kangaroo", feeds_forward=family != "kangaroo")
    taps = [exit_layer or -1]
    if family == "kangaroo":
        found["norm.weight"] = _take(tensors, "norm.weight")
    elif family == "dgf":
        for name, stored in (("dgf.w1", "W_1"), ("dgf.w2", "W_2"), ("dgf.gate", "W_z")):
            found[name + ".weight"] = _take(tensors, stored).T  # stored as [inputs, outputs]
        found["token_norm.weight"] = _take(tensors, "input_layernorm.weight")
    else:
        found["fc.weight"] = _take(tensors, "fc.weight")
        if "fc.bias" in tensors:
            found["fc.bias"] = tensors["fc.bias"]
    if family == "eagle3":
        found["block.0.token_norm.weight"] = _take(tensors, "layers.0.input_layernorm.weight")
        found["block.0.hidden_norm.weight"] = _take(tensors, "layers.0.hidden_norm.weight")
        found["norm.weight"] = _take(tensors, "norm.weight")
        found |= _head(tensors, target)
        taps = _taps(config, target)
    width = len(found["block.0.o.weight"])
    metadata = {
        "family": family,
        "width": width,
        **_block_shape(config, found),
        "norm_epsilon": _number(config, "rms_norm_eps", 1e-6),
        "rope_base": _number(config, "rope_theta", 10000.0),
        "taps": taps,
        **target.metadata(),
    }
    if family == "eagle3":
        metadata["norm_before_residual"] = bool(config.get("norm_before_residual", False))
    _check_fit(found, metadata, target)
    return metadata, found


def family_of(tensors: Mapping[str, np.ndarray]) -> str:
    if "W_z" in tensors:
        return "dgf"
    if "layers.0.hidden_norm.weight" in tensors:
        return "eagle3"
    if "fc.weight" in tensors:
        return "eagle"
    if "0.0.linear.weight" in tensors:
        return "medusa"
    if any(name.startswith("hydra_mlp.0.") for name in tensors):
        return "hydra"
    if {"norm.weight", "layers.0.self_attn.q_proj.weight"} <= tensors.keys() and not any("mlp" in n for n in tensors):
        return "kangaroo"
    names = ", ".join(sorted(tensors)[:6])
    raise _core.ModelFileError(f"not a draft head of EAGLE, DGF, Medusa, Hydra or Kangaroo; its first tensors: {names}")


def _convert_stacks(
    family: str, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], target: Target
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Medusa and Hydra: a stack for every depth; Hydra++ has a decoder layer over the text in front."""
    found = _medusa(tensors) if family == "medusa" else _hydra(tensors)
    heads = [value for name, value in found.items() if name.endswith(".head.weight")]
    rows, width = heads[0].shape
    if width != target.width or rows > target.vocab or any(len(head) != rows for head in heads):
        raise ValueError(
            f"heads of {rows} x {width} for a target of {target.vocab} tokens that is {target.width} wide: "
            "they were made for another target"
        )
    if rows < target.vocab:  # the target's vocabulary is padded
        found["draft_tokens"] = np.arange(rows)
    metadata = {"family": family, "width": width, "blocks": 0, "taps": [-1], **target.metadata()}
    if "block.0.q.weight" in found:
        metadata |= {
            **_block_shape({"num_attention_heads": config.get("num_attention_heads") or target.heads}, found),
            "norm_epsilon": _number(config, "rms_norm_eps", target.norm_epsilon),
            "rope_base": _number(config, "rope_theta", target.rope_base),
        }
    return metadata, found


def _medusa(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """K.J.linear of residual blocks, then K.LAST.weight of the head."""
    out = {}
    for name, value in tensors.items():
        head, index, *rest = name.split(".")
        if rest and rest[0] == "linear":
            out[f"medusa.{head}.block.{index}.{rest[1]}"] = value
        elif rest == ["weight"]:
            out[f"medusa.{head}.head.weight"] = value
    return out


def _hydra(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """hydra_mlp.K.N: its first block narrows, the others are residual; dropouts between count in N and hold nothing."""
    out = {}
    layers = {name: value for name, value in tensors.items() if name.startswith("prefix_embed")}
    if layers:  # spelt both "prefix_embeding_layer" and "prefix_embedding_layer"
        plain = {name.split(".", 1)[1]: value for name, value in layers.items()}
        out |= _blocks(plain, keeps_first_norm=True) | {"norm.weight": _take(plain, "norm.weight")}
    places: dict[str, list[int]] = {}
    for name in tensors:
        part, head, index, *rest = [*name.split("."), "", ""][:5]
        if part == "hydra_mlp" and rest[0] == "linear" and int(index) not in places.setdefault(head, []):
            places[head].append(int(index))
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[0] == "hydra_lm_head":
            out[f"hydra.{parts[1]}.head.{parts[-1]}"] = value
        elif parts[0] == "hydra_mlp":
            place = sorted(places[parts[1]]).index(int(parts[2]))
            role = "skip" if parts[3] == "res_connection" else "in" if place == 0 else f"block.{place - 1}"
            out[f"hydra.{parts[1]}.{role}.{parts[-1]}"] = value
    return out


def _weights_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    for name in _FILES:
        if (source / name).exists():
            return source / name
    raise _core.ModelFileError(f"{source}: holds none of {', '.join(_FILES)}")


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _core.ModelFileError(f"{path}: missing; the weights need it beside them") from None
    except (OSError, ValueError) as error:
        raise _core.ModelFileError(f"{path}: {error}") from None
    if not isinstance(config, dict):
        raise _core.ModelFileError(f"{path}: not a JSON object")
    return config


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    """A number of a configuration; what is missing or null is `default`."""
    value = config.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not 0 < value < 1e30:
        raise _core.ModelFileError(f"config.json: {name} is {value!r}, expected a number above 0")
    return float(value)


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name) or {}
    if not isinstance(value, dict):
        raise _core.ModelFileError(f"config.json: {name} is {value!r}, expected an object")
    return value


def _plain_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One spelling: no "model." in front, "layers.0" for EAGLE-3's "midlayer", d2t."""
    out = {}
    for name, value in tensors.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name.startswith("midlayer."):
            name = "layers.0." + name.removeprefix("midlayer.")
        out["d2t" if name == "draft_id_to_target_id" else name] = value
    return out


def _take(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise _core.ModelFileError(f"tensor {name!r} is missing")
    return tensors[name]


def _blocks(
    tensors: Mapping[str, np.ndarray], keeps_first_norm: bool, feeds_forward: bool = True
) -> dict[str, np.ndarray]:
    """Decoder blocks under the names of the draft file. The first has no norm of its own in EAGLE and DGF; EAGLE-3
    gives that name to the norm of the token's embedding."""
    out = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[0] != "layers" or len(parts) < 4:
            continue
        role, index = ".".join(parts[2:-1]), parts[1]
        if role == "hidden_norm" or (role == "input_layernorm" and index == "0" and not keeps_first_norm):
            continue
        if role not in _BLOCK:
            if role.endswith("rotary_emb"):
                continue
            raise NotImplementedError(f"tensor {name!r}: no such part of a block is known")
        out[f"block.{index}.{_BLOCK[role]}.{parts[-1]}"] = value
    for index in {"0"} | {name.split(".")[1] for name in out}:
        for role, ours in _BLOCK.items():
            if not feeds_forward and ours in ("ffn_norm", "gate", "up", "down"):
                continue
            if ours != "attn_norm" and f"block.{index}.{ours}.weight" not in out:
                raise _core.ModelFileError(f"tensor 'layers.{index}.{role}.weight' is missing")
    return out


def _head(tensors: Mapping[str, np.ndarray], target: Target) -> dict[str, np.ndarray]:
    """EAGLE-3's own head, its rows in ascending order of the target's ids."""
    head = _take(tensors, "lm_head.weight")
    if "d2t" not in tensors:
        if len(head) != target.vocab:
            raise ValueError(f"a head of {len(head)} rows without d2t, for a target of {target.vocab} tokens")
        return {"head.weight": head}
    ids = np.arange(len(head)) + np.asarray(tensors["d2t"], np.int64)  # offsets, not ids
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if len(ids) == 0 or ids[0] < 0 or ids[-1] >= target.vocab or (np.diff(ids) == 0).any():
        raise ValueError(f"d2t: does not name distinct tokens of a target of {target.vocab} tokens")
    return {"head.weight": head if (np.diff(order) == 1).all() else head[order], "draft_tokens": ids}


def _taps(config: Mapping[str, Any], target: Target) -> list[int]:
    """Layers whose input is read. Configurations count outputs: that of layer 1 enters layer 2."""
    listed = _object(config, "eagle_config").get("eagle_aux_hidden_state_layer_ids")
    if listed:
        if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
            raise _core.ModelFileError(f"config.json: eagle_aux_hidden_state_layer_ids is {listed!r}, expected layers")
        return [layer + 1 for layer in listed]
    return [2, target.layers // 2, target.layers - 3]


def _block_shape(config: Mapping[str, Any], found: Mapping[str, np.ndarray]) -> dict[str, int]:
    rows = len(found["block.0.q.weight"])
    heads = config.get("num_attention_heads") or 0
    if type(heads) is not int or heads < 1 or rows % heads:
        raise _core.ModelFileError(f"config.json: num_attention_heads is {heads!r}, but q has {rows} rows")
    head_dim = rows // heads
    return {
        "blocks": 1 + max(int(name.split(".")[1]) for name in found if name.startswith("block.")),
        "heads": heads,
        "kv_heads": len(found["block.0.k.weight"]) // head_dim,
        "head_dim": head_dim,
        "ffn_width": len(found.get("block.0.gate.weight", [])),
    }


def _check_fit(found: Mapping[str, np.ndarray], metadata: Mapping[str, Any], target: Target) -> None:
    """What the runtime would refuse, said in the terms of the source."""
    width, family, taps = metadata["width"], metadata["family"], metadata["taps"]
    if family != "eagle3" and width != target.width:
        raise ValueError(f"the head is {width} wide, the target {target.width}: it was made for another target")
    if family not in ("dgf", "kangaroo"):
        inputs = len(taps) * target.width if family == "eagle3" else target.width + width
        if found["fc.weight"].shape != (width, inputs):
            raise ValueError(
                f"fc.weight is {list(found['fc.weight'].shape)}, expected {[width, inputs]} for a target that is "
                f"{target.width} wide: it was made for another target"
            )
    if any(not -1 <= tap < target.layers for tap in taps):
        raise ValueError(f"it reads layers {taps}, the target has {target.layers}")
