"""Texts on which tokenizers like to disagree."""

import random
import unicodedata

CODE = """def f(x: int) -> "str":
\tif x  ==  0x1F:\r\n        return f"{x!r:>10}"  # naïve
    for i in range(10_000): pass


class A(B):   \n\n\n\t\t  \n    pass  \n
#include <vector>
int main() { std::vector<int> v{1,2,3}; return v[0]+12345678901234567890; }   """

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    " \n",
    "\n ",
    "a",
    "Hello, world!",
    " leading and trailing ",
    "  two  spaces   three    four     ",
    "tabs\tand\t\ttabs\t \t mixed \t\n\t x",
    "line\nbreak\r\nwindows\rmac\n\r\n\n  indented\n\t\n",
    "   \n   \n\n   x   \r\n \r y",
    "no-break\u00a0space\u00a0\u00a0 thin\u2009\u200a ideographic\u3000\u3000x\u2028para\u2029\u0085next",
    "zero\u200bwidth\u200cand\u200djoiner\ufeffbom\u2060",
    "it's I'm you're we've he'll she'd can't IT'S I'M YOU'RE WE'VE HE'LL SHE'D CAN'T 'Tis 'twas '' 's'S'sS'ss 'lL 'Ve'",
    "'\u017f'\u017f' 'l 'r 'v '\u017ft x'\u017f 'LL'lm' don''t",
    "0 1 12 123 1234 12345 1.5 1,234,567.89 -3 +4 1e10 0x7f ١٢٣٤ १२३४५ ½¾ ⅷ ①②③ x²y³ 1a2b 3  4   5",
    CODE,
    CODE * 3,
    "日本語のテキストと漢字。中文文本，没有空格！한국어 텍스트입니다 ไทย ภาษา",
    "العربية: مرحبا بالعالم، كيف حالك؟ עברית שלום ١٢٣",
    "Ünïcödé Straße İstanbul ǅ ﬁ ﬂ ﬆ Ångström Å Å",
    "e\u0301 a\u0308 o\u0302\u0323 n\u0303 \u0301\u0301 क्षि नमस्ते ก็ \u1100\u1161\u11a8 \uac00\u11a8 ệ",
    "👋 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽👍🏿 🇩🇪🇫🇷 ☺️ 1️⃣ 🤷🏻‍♀️x🎉🎉🎉",
    "!!! ??? ... --- === ***** ///// \\\\ ((([[[{{{ <<>> #@$%^&*~`|",
    "http://example.com/a?b=c&d=e#f user@example.org C:\\dir\\file.txt $HOME/.config ~/x",
    "math: ∑∫∂√∞≠≤≥ αβγδ 𝒜𝓑𝕮 x̄ →⇒ °C €£¥₿",
    "_under_score__ CamelCase camelCase SCREAMING_SNAKE kebab-case",
    "<|im_start|>system\nYou are.<|im_end|>\n<|im_start|>user\nHi<|im_end|>",
    "<|im_start|><|im_start|>x<|im_end|> <|endoftext|>  <|im_end",
    "<|im_<|im_start|>|> <tool_call>{}</tool_call> <s>a</s> <unk> <0x0A> <|<|endoftext|>|>",
    "\u2581 \u2581a \u2581\u2581 a\u2581b",
    "\x00\x01\x02 \x7f\x1b[0m \x1c\x1d\x1e\x1f x",
    "a" * 5000,
    " " * 3000 + "x",
    "\n" * 1000 + " y",
    "ab" * 2000,
    "0" * 1000,
    "=" * 999 + "\n\n",
    "😀" * 300,
    "漢" * 500,
    "Ġ Ċ ĉ âĢĻ Ã©",
]

INVALID = [
    b"\xff",
    b"\x80\x80",
    b"abc\xc3",
    b"\xc3(\xa0\xa1",
    b"\xe2\x82",
    b"\xe2\x28\xa1 x",
    b"\xf0\x9f\x98",
    b"\xf0\x28\x8c\xbc",
    b"\xc0\x80\xc1\xbf",
    b"\xed\xa0\x80\xed\xbf\xbf",
    b"\xf4\x90\x80\x80\xf5\xf6\xf7\xf8",
    b"ok \xe6\x97\xa5\xe6\x9c ok",
    bytes(range(256)),
    bytes(range(255, -1, -1)) * 3,
]

_ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz    ",
    "ABCabc'sStTmMdDrReEvVlL  ",
    "0123456789 .,x",
    " \t\n\r\u00a0\u3000\u2028a.",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ a\n",
    "éàüßñçøåÀÉ e\u0301\u0308\u0323",
    "日本語中文한국어ไทย、。 ",
    "العربية हिन्दी עברית ",
    "👩👧🏽\u200d\ufe0f🇩🇪☺ ",
    "<|im_start|>end<|endoftext|></s><unk> ",
]


def random_texts(count, seed=1):
    """Random Unicode strings: from narrow alphabets, mixtures of them, and all assigned code points."""
    rng = random.Random(seed)
    texts = []
    while len(texts) < count:
        kind = rng.randrange(4)
        length = rng.randrange(1, 60)
        if kind == 0:
            text = "".join(rng.choices(rng.choice(_ALPHABETS), k=length))
        elif kind == 1:
            text = "".join(rng.choice(rng.choice(_ALPHABETS)) for _ in range(length))
        elif kind == 2:
            sample = rng.choice(TEXTS[7:35])
            begin = rng.randrange(len(sample))
            text = sample[begin : begin + length] + rng.choice(TEXTS[7:35])[:20]
        else:
            text = "".join(_assigned(rng) for _ in range(length))
        texts.append(text)
    return texts


def _assigned(rng):
    while True:
        char = chr(rng.randrange(0x30000 if rng.random() < 0.3 else 0x3000))
        if unicodedata.category(char) not in ("Cn", "Cs", "Co"):
            return char


def corpus(count=1500, seed=1):
    """All fixed texts and `count` random ones."""
    return TEXTS + random_texts(count, seed)
