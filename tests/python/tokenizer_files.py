"""Writes tokenizers to files that forerun opens: GGUF files without tensors, Hugging Face folders with one tensor."""

import json
import struct

import gguf
import numpy as np


def write_gguf(path, *, model, tokens, types, pre=None, merges=None, scores=None, fields=None, weights=False):
    """A GGUF file that holds nothing but a tokenizer; `fields` are further keys after "tokenizer.ggml.".

    `weights`: with the smallest model around it, for runtimes that load no tokenizer alone.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores(scores)
    for key, value in (fields or {}).items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add("tokenizer.ggml." + key, value)
    if weights:
        _add_weights(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def _add_weights(writer, rows):
    width = 32
    writer.add_block_count(1)
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(1e-5)
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.0.{name}": (width, width) for name in matrices}
    shapes |= {f"blk.0.{name}": (width,) for name in ("attn_norm", "ffn_norm")}
    shapes |= {"token_embd": (rows, width), "output": (rows, width), "output_norm": (width,)}
    for name, shape in shapes.items():
        writer.add_tensor(name + ".weight", np.ones(shape, np.float32))


def write_folder(path, tokenizer, *, config=None, tokenizer_config=None, **files):
    """A Hugging Face folder for a `tokenizers.Tokenizer`, or for the text of its tokenizer.json."""
    path.mkdir(parents=True, exist_ok=True)
    text = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
    (path / "tokenizer.json").write_text(text, encoding="utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config or {}), encoding="utf-8")
    (path / "config.json").write_text(json.dumps(config or {"model_type": "llama"}), encoding="utf-8")
    for name, contents in files.items():
        (path / name.replace("__", ".")).write_text(contents, encoding="utf-8")
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return str(path)
