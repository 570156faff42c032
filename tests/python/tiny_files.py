"""Random models small enough for NumPy, written as GGUF files or Hugging Face folders."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from reference import Weights

TYPES = gguf.GGMLQuantizationType
BLOCK = {"Q4_0": 32, "Q4_1": 32, "Q5_0": 32, "Q5_1": 32, "Q8_0": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256}
# Where the half-precision scales lie in a block, and what makes the values about N(0, 1): d and, if any, the minimum.
SCALES = {
    "Q4_0": [(0, 1 / 4.6)],
    "Q4_1": [(0, 1 / 4.6), (2, -7.5 / 4.6)],
    "Q5_0": [(0, 1 / 9.2)],
    "Q5_1": [(0, 1 / 9.2), (2, -15.5 / 9.2)],
    "Q8_0": [(0, 1 / 74)],
    "Q4_K": [(0, 1 / 180), (2, 7.5 / 180)],
    "Q5_K": [(0, 1 / 300), (2, 15.5 / 300)],
    "Q6_K": [(208, 1 / 1370)],
}


def random_matrix(rng, dtype: str, rows: int, cols: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Bytes as the file stores them, [rows, bytes], and the values they stand for."""
    deviation = gain / np.sqrt(cols)
    if dtype in ("F32", "F16", "BF16"):
        values = rng.normal(0, deviation, (rows, cols)).astype(np.float32)
        if dtype == "F16":
            values = values.astype(np.float16)
            return values, values.astype(np.float32)
        if dtype == "BF16":
            bits = (values.view(np.uint32) >> 16).astype(np.uint16)
            return bits.view(np.uint8), (bits.astype(np.uint32) << 16).view(np.float32)
        return values, values
    size = gguf.GGML_QUANT_SIZES[TYPES[dtype]][1]
    raw = rng.integers(0, 256, (rows, cols // BLOCK[dtype], size), dtype=np.uint8)
    for offset, unit in SCALES[dtype]:
        half = np.array([unit * deviation], np.float16).view(np.uint8)
        raw[:, :, offset : offset + 2] = half
    raw = raw.reshape(rows, -1)
    return raw, dequantize(raw, TYPES[dtype]).reshape(rows, cols)


def make(rng, config: dict, dtype: str, head_dtype: str) -> tuple[dict[str, tuple], Weights]:
    """Tensors by GGUF role as (bytes, type), and the same for the reference."""
    files: dict[str, tuple] = {}
    weights = Weights()

    def matrix(role, rows, cols, gain=1.5, kind=dtype):
        raw, values = random_matrix(rng, kind, rows, cols, gain)
        files[role], _ = (raw, kind), weights.add(role, values, kind)

    def vector(role, size, mean, deviation):
        values = rng.normal(mean, deviation, size).astype(np.float32)
        files[role], _ = (values, "F32"), weights.add(role, values)

    width, ffn, head_dim = config["width"], config["ffn"], config["head_dim"]
    q, kv = config["heads"] * head_dim, config["kv_heads"] * head_dim
    matrix("token_embd.weight", config["vocab"], width, 12.0, head_dtype if config.get("tied") else "F32")
    for layer in range(config["layers"]):
        b = f"blk.{layer}."
        vector(b + "attn_norm.weight", width, 1, 0.1)
        vector(b + "ffn_norm.weight", width, 1, 0.1)
        matrix(b + "attn_q.weight", q, width)
        matrix(b + "attn_k.weight", kv, width)
        matrix(b + "attn_v.weight", kv, width)
        matrix(b + "attn_output.weight", width, q)
        matrix(b + "ffn_gate.weight", ffn, width)
        matrix(b + "ffn_up.weight", ffn, width)
        matrix(b + "ffn_down.weight", width, ffn)
        if config["architecture"] == "qwen2":
            for name, size in (("q", q), ("k", kv), ("v", kv)):
                vector(b + f"attn_{name}.bias", size, 0, 0.3)
        if config["architecture"] == "qwen3":
            vector(b + "attn_q_norm.weight", head_dim, 1, 0.1)
            vector(b + "attn_k_norm.weight", head_dim, 1, 0.1)
    vector("output_norm.weight", width, 1, 0.1)
    if not config.get("tied"):
        matrix("output.weight", config["vocab"], width, 2.0, head_dtype)
    return files, weights


def byte_vocabulary(size: int) -> tuple[list[str], list[int]]:
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names, extra = {}, 256
    for byte in range(256):
        names[byte] = chr(byte if byte in plain else extra)
        extra += byte not in plain
    tokens = [names[b] for b in range(256)] + ["<|end|>", "~~"]
    tokens += [f"<extra_{i}>" for i in range(len(tokens), size)]
    return tokens, [1] * 256 + [3, 1] + [4] * (size - 258)


def write_gguf(path: Path, config: dict, files: dict[str, tuple]) -> None:
    w = gguf.GGUFWriter(path, config["architecture"])
    w.add_block_count(config["layers"])
    w.add_embedding_length(config["width"])
    w.add_feed_forward_length(config["ffn"])
    w.add_head_count(config["heads"])
    w.add_head_count_kv(config["kv_heads"])
    w.add_key_length(config["head_dim"])
    w.add_value_length(config["head_dim"])
    w.add_rope_dimension_count(config["rotary"])
    w.add_rope_freq_base(config.get("rope_base", 10000.0))
    w.add_context_length(512)
    w.add_layer_norm_rms_eps(config["epsilon"])
    if config.get("rope_scaling") in ("linear", "yarn"):
        w.add_string(f"{config['architecture']}.rope.scaling.type", config["rope_scaling"])
        w.add_float32(f"{config['architecture']}.rope.scaling.factor", config["rope_factor"])
        w.add_uint32(
            f"{config['architecture']}.rope.scaling.original_context_length",
            config.get("rope_original_context", 512),
        )
    tokens, kinds = byte_vocabulary(config["vocab"])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges(["~ ~"])  # the writer drops an empty list
    if "chat_template" in config:
        w.add_chat_template(config["chat_template"])
    w.add_eos_token_id(256)
    for role, (raw, dtype) in files.items():
        w.add_tensor(role, raw, raw_dtype=None if dtype in ("F32", "F16") else TYPES[dtype])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


HF_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
HF_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def hf_name(role: str) -> str:
    stem, kind = role.rsplit(".", 1)
    if not role.startswith("blk."):
        return f"{HF_TOP[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{HF_BLOCK[part]}.{kind}"


def write_safetensors(path: Path, tensors: dict[str, tuple]) -> None:
    header, blobs, at = {}, [], 0
    for name, (raw, dtype) in tensors.items():
        blob = np.ascontiguousarray(raw).tobytes()
        shape = list(raw.shape)
        if dtype == "BF16":
            shape[-1] //= 2
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def write_hf(folder: Path, config: dict, files: dict[str, tuple], shards: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scaling = config.get("rope_scaling", "none")
    rope = None
    if scaling != "none":
        rope = {"rope_type": scaling, "factor": config["rope_factor"]}
        rope["original_max_position_embeddings"] = config.get("rope_original_context", 512)
        if scaling == "llama3":
            rope |= {"low_freq_factor": config["rope_low"], "high_freq_factor": config["rope_high"]}
    text = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": config["architecture"],
        "num_hidden_layers": config["layers"],
        "hidden_size": config["width"],
        "intermediate_size": config["ffn"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["kv_heads"],
        "head_dim": config["head_dim"],
        "vocab_size": config["vocab"],
        "max_position_embeddings": 512,
        "rms_norm_eps": config["epsilon"],
        "rope_theta": config.get("rope_base", 10000.0),
        "rope_scaling": rope,
        "hidden_act": "silu",
        "tie_word_embeddings": bool(config.get("tied")),
    }
    (folder / "config.json").write_text(json.dumps(text))
    tokens, _ = byte_vocabulary(config["vocab"])
    added = [
        {"id": i, "content": tokens[i], "special": i == 256, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i in range(256, len(tokens))
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens[:256])}, "merges": []}
    tokenizer = {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": byte_level,
                 "decoder": byte_level, "post_processor": None, "model": model}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    named = {hf_name(role): entry for role, entry in files.items()}
    if shards == 1:
        write_safetensors(folder / "model.safetensors", named)
        return
    index = {}
    for shard in range(shards):
        part = dict(list(named.items())[shard::shards])
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / name, part)
        index |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
