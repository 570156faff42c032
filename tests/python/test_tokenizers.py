"""Token ids against three other implementations: the `tokenizers` library, sentencepiece and llama.cpp."""

import io
import json
import os
import unicodedata
from pathlib import Path

import pytest

import needs
from forerun import _core
from llama_server import llama_server
from text_corpus import INVALID, TEXTS, corpus
from tokenizer_files import write_folder, write_gguf

gguf = needs.module("gguf")
hf = needs.module("tokenizers")
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|>x", "<s>", "</s>"]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def byte_level_steps(name):
    """The pre_tokenizer that a tokenizer.json of this family has."""
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    split = pre_tokenizers.Split(Regex(LLAMA3 if name == "llama-bpe" else QWEN2), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, byte_level])


def first_difference(tokenizer, oracle, texts, parse_special=True):
    """The first text on which the ids differ, with both results; None when there is none."""
    oracle.encode_special_tokens = not parse_special
    for text in texts:
        expected = oracle.encode(text, add_special_tokens=False).ids
        found = tokenizer.encode(text, False, parse_special)
        if found != expected:
            tokens = [oracle.id_to_token(i) for i in found]
            return text, tokens, [oracle.id_to_token(i) for i in expected]
    return None


def train(name, ignore_merges=False, nfc=False):
    tokenizer = hf.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = byte_level_steps(name)
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(600, seed=9), trainer)
    tokenizer.add_special_tokens([AddedToken(s, normalized=False) for s in SPECIALS])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("  @", normalized=False)])
    return tokenizer


def tables(tokenizer):
    """tokens, types and merges of a `tokenizers.Tokenizer`, as a GGUF file stores them."""
    document = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.get)
    types = [NORMAL] * len(tokens)
    for added in document["added_tokens"]:
        types[added["id"]] = CONTROL if added["special"] else USER
    merges = [m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]]
    return tokens, types, merges


@pytest.fixture(scope="module", params=["gpt-2", "llama-bpe", "smollm", "qwen2"])
def family(request):
    return request.param, train(request.param, ignore_merges=request.param == "llama-bpe")


@pytest.mark.parametrize("parse_special", [True, False])
def test_byte_level_gguf_equals_the_tokenizers_library(family, tmp_path, parse_special):
    name, oracle = family
    tokens, types, merges = tables(oracle)
    path = write_gguf(
        tmp_path / "t.gguf",
        model="gpt2",
        pre=name,
        tokens=tokens,
        types=types,
        merges=merges,
        fields={"add_bos_token": False},
    )
    tokenizer = _core.Tokenizer(path)
    assert tokenizer.vocab_size == len(tokens)
    assert first_difference(tokenizer, oracle, corpus(), parse_special) is None


def test_byte_level_folder_equals_the_tokenizers_library(family, tmp_path):
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", family[1]))
    assert first_difference(tokenizer, family[1], corpus()) is None


def test_byte_level_text_survives_the_round_trip(family, tmp_path):
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", family[1]))
    for text in [t.encode() for t in corpus(300)] + INVALID:
        assert tokenizer.decode(tokenizer.encode(text), special=True) == text


def test_merges_as_pairs_and_as_strings_mean_the_same(tmp_path):
    oracle = train("qwen2")
    document = json.loads(oracle.to_str())
    merges = [m.split(" ") if isinstance(m, str) else m for m in document["model"]["merges"]]
    found = []
    for form in (merges, [" ".join(m) for m in merges]):
        document["model"]["merges"] = form
        tokenizer = _core.Tokenizer(write_folder(tmp_path / str(len(found)), json.dumps(document)))
        found.append([tokenizer.encode(text) for text in TEXTS])
    assert found[0] == found[1]


def test_folder_normalises_to_nfc_where_its_tokenizer_does(tmp_path):
    oracle = train("qwen2", nfc=True)
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", oracle))
    texts = corpus() + [unicodedata.normalize("NFD", text) for text in corpus(800)]
    # The library's tables are older than Python's: without the texts on which these two differ.
    nfc = normalizers.NFC()
    known = [t for t in texts if nfc.normalize_str(t) == unicodedata.normalize("NFC", t)]
    assert len(known) > 0.9 * len(texts)
    assert first_difference(tokenizer, oracle, known) is None


def test_nfc_equals_unicodedata_on_every_character(tmp_path):
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", train("qwen2", nfc=True)))
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    for begin in range(0, len(assigned), 997):
        chunk = assigned[begin : begin + 997]
        for text in (
            "".join(chunk),
            "a\u0323".join(chunk),
            "\u0301\u0327".join(chunk),
            unicodedata.normalize("NFD", "".join(chunk)),
        ):
            assert tokenizer.decode(tokenizer.encode(text, False, False)).decode() == unicodedata.normalize("NFC", text)


def test_strip_flags_of_added_tokens_take_white_space(tmp_path):
    oracle = train("gpt-2")
    oracle.add_special_tokens([AddedToken("<L>", lstrip=True), AddedToken("<R>", rstrip=True)])
    oracle.add_special_tokens([AddedToken("<B>", lstrip=True, rstrip=True)])
    texts = [
        "a <L> b",
        "a  \n\u3000<L>  b",
        "a <R> \t b",
        "x<R>\n\n",
        " <B> ",
        "a \u00a0<B>\u2003\n b<L>",
        "<R>  <L>",
        "a<L><R> b",
    ]
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", oracle))
    assert first_difference(tokenizer, oracle, texts) is None


def test_byte_level_prefix_space_equals_the_tokenizers_library(tmp_path):
    oracle = train("gpt-2")
    oracle.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", oracle))
    texts = [*corpus(500), "a</s>b", "</s> b", "</s>\nb</s>"]
    assert first_difference(tokenizer, oracle, texts) is None


def test_template_and_flags_decide_about_bos_and_eos(tmp_path):
    oracle = train("llama-bpe", ignore_merges=True)
    bos, eos = (oracle.token_to_id(s) for s in ("<s>", "</s>"))
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
    plain = _core.Tokenizer(write_folder(tmp_path / "plain", oracle, tokenizer_config=names))
    assert (plain.bos, plain.eos, plain.encode("a")[:1] == [bos]) == (bos, eos, False)
    flagged = names | {"add_bos_token": True, "add_eos_token": True}
    both = _core.Tokenizer(write_folder(tmp_path / "flags", oracle, tokenizer_config=flagged))
    assert both.encode("") == [bos, eos]
    oracle.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])]
    )
    template = _core.Tokenizer(write_folder(tmp_path / "template", oracle, tokenizer_config=names))
    for text in TEXTS[:20]:
        assert template.encode(text) == oracle.encode(text).ids
    off = names | {"add_bos_token": False}
    assert _core.Tokenizer(write_folder(tmp_path / "off", oracle, tokenizer_config=off)).encode("") == []


def test_end_tokens_and_chat_template_come_from_all_files(tmp_path):
    oracle = train("qwen2")
    ids = {s: oracle.token_to_id(s) for s in SPECIALS}
    folder = write_folder(
        tmp_path / "m",
        oracle,
        config={"model_type": "qwen2", "eos_token_id": [5, 6], "vocab_size": 3000},
        tokenizer_config={
            "eos_token": "</s>",
            "chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}],
        },
        generation_config__json=json.dumps({"eos_token_id": [7]}),
    )
    tokenizer = _core.Tokenizer(folder)
    ends = {5, 6, 7, ids["</s>"], ids["<|im_end|>"], ids["<|endoftext|>"]}
    assert set(tokenizer.end_tokens) == ends
    assert (tokenizer.chat_template, tokenizer.vocab_size) == ("D", 3000)
    assert tokenizer.decode([2999]) == b""
    Path(folder, "chat_template.jinja").write_text("J")
    assert _core.Tokenizer(folder).chat_template == "J"


SPM_SPECIALS = ["<|im_start|>", "[USER]"]


@pytest.fixture(scope="module", params=[True, False], ids=["bytes", "unk"])
def pieces(request):
    """A sentencepiece model, with byte fallback or <unk>."""
    sentencepiece = needs.module("sentencepiece")
    out = io.BytesIO()
    lines = [line for text in TEXTS for line in text.replace("\0", "").split("\n")]
    words = [line for line in lines if 0 < len(line) < 1000]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=out,
        vocab_size=1100,
        model_type="bpe",
        character_coverage=0.99,
        byte_fallback=request.param,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=SPM_SPECIALS,
        max_sentence_length=8192,
        minloglevel=2,
        allow_whitespace_only_pieces=True,
        split_digits=True,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def piece_types(pieces):
    kinds = []
    for i in range(len(pieces)):
        if pieces.id_to_piece(i) in SPM_SPECIALS:
            kinds.append(USER)
        elif pieces.is_unknown(i):
            kinds.append(UNKNOWN)
        elif pieces.is_control(i):
            kinds.append(CONTROL)
        else:
            kinds.append(BYTE if pieces.is_byte(i) else NORMAL)
    return kinds


def write_spm_gguf(path, pieces, weights=False, **fields):
    tokens = [pieces.id_to_piece(i) for i in range(len(pieces))]
    scores = [pieces.get_score(i) for i in range(len(pieces))]
    return write_gguf(
        path,
        model="llama",
        pre="default",
        tokens=tokens,
        scores=scores,
        types=piece_types(pieces),
        fields=fields,
        weights=weights,
    )


def without_specials(texts):
    return [t for t in texts if t and not any(s in t for s in SPM_SPECIALS)]


def test_spm_gguf_equals_sentencepiece(pieces, tmp_path):
    tokenizer = _core.Tokenizer(write_spm_gguf(tmp_path / "t.gguf", pieces))
    for text in without_specials(corpus(2500)):
        assert tokenizer.encode(text, True, False) == [pieces.bos_id(), *pieces.encode(text)], repr(text)
        assert tokenizer.decode(pieces.encode(text)).decode() == text or "\u2581" in text or not pieces.is_byte(5)


def test_spm_prefix_and_bos_follow_the_file(pieces, tmp_path):
    flags = {"add_bos_token": False, "add_eos_token": True, "add_space_prefix": False}
    tokenizer = _core.Tokenizer(write_spm_gguf(tmp_path / "t.gguf", pieces, **flags))
    prefixed = _core.Tokenizer(write_spm_gguf(tmp_path / "p.gguf", pieces, add_bos_token=False))
    assert tokenizer.encode(" a b") == [*prefixed.encode("a b"), pieces.eos_id()]
    assert tokenizer.encode("") == [pieces.eos_id()]


def test_spm_special_tokens_cut_the_text(pieces, tmp_path):
    tokenizer = _core.Tokenizer(write_spm_gguf(tmp_path / "t.gguf", pieces, add_bos_token=False))
    user = [pieces.piece_to_id("[USER]")]
    a, b = pieces.encode("see"), pieces.encode("it")
    assert tokenizer.encode("see[USER]it") == a + user + b
    assert tokenizer.encode("see</s>it") == [*a, pieces.eos_id(), *b]
    assert tokenizer.encode("see</s>it", True, False) == pieces.encode("see</s>it")
    assert tokenizer.decode([*a, pieces.eos_id(), *b]) == b"see it"


def spm_oracle(pieces, scheme):
    """A `tokenizers` model of the same pieces; merges sorted by score, as transformers converts them."""
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    kinds = piece_types(pieces)
    merges = []
    for piece, i in vocabulary.items():
        if kinds[i] != NORMAL:
            continue
        for cut in range(1, len(piece)):
            halves = piece[:cut], piece[cut:]
            if all(h in vocabulary and kinds[vocabulary[h]] == NORMAL for h in halves):
                merges.append((-pieces.get_score(i), vocabulary[halves[0]], vocabulary[halves[1]], halves))
    bytes_too = BYTE in kinds
    oracle = hf.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[m[3] for m in sorted(merges)],
            unk_token="<unk>",
            byte_fallback=bytes_too,
            fuse_unk=True,
        )
    )
    if scheme == "prepend":
        oracle.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        oracle.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme=scheme.split("-")[0], split=scheme.endswith("split")
        )
    oracle.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    oracle.add_special_tokens([AddedToken(s, normalized=False) for s in ("<unk>", "<s>", "</s>")])
    oracle.add_tokens([AddedToken(s, normalized=False) for s in SPM_SPECIALS])
    return oracle


@pytest.mark.parametrize("scheme", ["prepend", "first", "always", "never", "first-split"])
def test_spm_folder_equals_the_tokenizers_library(pieces, tmp_path, scheme):
    oracle = spm_oracle(pieces, scheme)
    tokenizer = _core.Tokenizer(write_folder(tmp_path / "m", oracle))
    texts = [*corpus(1500), "a</s>b", "</s> b", " </s>", "<s>  x[USER]y [USER] z", "▁x</s>▁y"]
    assert first_difference(tokenizer, oracle, texts) is None
    assert first_difference(tokenizer, oracle, texts, parse_special=False) is None


REAL = {
    "smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen2.5-coder-0.5b": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
}


def real_model(name, request):
    folder = os.environ.get("FORERUN_TEST_MODELS")
    if folder and Path(folder, REAL[name]).is_file():
        return str(Path(folder, REAL[name]))
    if name != "smollm2-135m":
        pytest.skip(f"needs {REAL[name]}: name a folder that holds it in FORERUN_TEST_MODELS")
    return str(request.getfixturevalue("smollm2_path"))


@pytest.mark.real_model
@pytest.mark.parametrize("name", REAL)
def test_real_vocabulary_equals_the_tokenizers_library(name, request):
    path = real_model(name, request)
    fields = gguf.GGUFReader(path).fields
    tokens, types, merges = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "token_type", "merges"))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    oracle = hf.Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(m.split(" ")) for m in merges]))
    oracle.pre_tokenizer = byte_level_steps(fields["tokenizer.ggml.pre"].contents())
    controls = [AddedToken(t, normalized=False) for t, kind in zip(tokens, types, strict=False) if kind == CONTROL]
    oracle.add_special_tokens(controls)
    oracle.add_tokens([AddedToken(t, normalized=False) for t, kind in zip(tokens, types, strict=False) if kind == USER])
    tokenizer = _core.Tokenizer(path)
    assert first_difference(tokenizer, oracle, corpus(2500)) is None
    assert first_difference(tokenizer, oracle, corpus(500), parse_special=False) is None
    assert tokenizer.eos in tokenizer.end_tokens
    assert tokenizer.chat_template == fields["tokenizer.chat_template"].contents()


def llama_encoder(path):
    """llama.cpp's tokenizer: a function from text and flags to ids."""
    ask = llama_server(path, context=256, threads=1)

    def encode(text, special):
        return ask("/tokenize", {"content": text, "add_special": special, "parse_special": special})["tokens"]

    return encode


def assert_equals_llama(path, texts):
    """Without the long s, which llama.cpp does not read as a contraction, and characters newer than its tables."""
    tokenizer, encode = _core.Tokenizer(path), llama_encoder(path)
    known = [t for t in texts if "\u017f" not in t and all(unicodedata.category(c) != "Cn" for c in t)]
    assert len(known) > 0.9 * len(texts)
    for text in known:
        for special in (True, False):
            assert tokenizer.encode(text, special, special) == encode(text, special), repr(text)


@pytest.mark.real_model
@pytest.mark.parametrize("name", REAL)
def test_real_vocabulary_equals_llama_cpp(name, request):
    # llama.cpp takes </s> for a control token even where it is a normal one (Qwen's vocabulary has it for HTML).
    texts = [t for t in corpus(400, seed=2) if "</s>" not in t]
    assert_equals_llama(real_model(name, request), texts)


def test_spm_gguf_equals_llama_cpp(pieces, tmp_path):
    path = write_spm_gguf(tmp_path / "t.gguf", pieces, weights=True)
    if pieces.is_byte(5):  # llama.cpp stops at characters without a token when there are no byte tokens
        assert_equals_llama(path, [*corpus(300, seed=2), "a[USER]b</s> c", "<s> <s>x", "[USER][USER]  y"])
