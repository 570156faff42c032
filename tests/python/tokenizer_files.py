"""Writes tokenizers to files that forerun opens: GGUF files without tensors, Hugging Face folders with one tensor."""

import json
import struct

import gguf


def write_gguf(path, *, model, tokens, types, pre=None, merges=None, scores=None, fields=None):
    """A GGUF file that holds nothing but a tokenizer; `fields` are further keys after "tokenizer.ggml."."""
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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


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
