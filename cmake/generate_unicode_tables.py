"""Writes csrc/text/unicode_tables.inl from a Unicode database.

    python cmake/generate_unicode_tables.py csrc/text/unicode_tables.inl

Uses the PyPI package `unicodedata2` when it is installed (16.0.0 is the version that the regular expressions of
the `tokenizers` library know), else Python's own, older `unicodedata`.
"""

import sys

try:
    import unicodedata2 as database
except ImportError:
    import unicodedata as database

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)


def ranges(values):
    """Runs [first, last, value] of equal, truthy values over consecutive code points."""
    runs = []
    for code, value in values:
        if not value:
            continue
        if runs and runs[-1][1] == code - 1 and runs[-1][2] == value:
            runs[-1][1] = code
        else:
            runs.append([code, code, value])
    return runs


def table(declaration, rows):
    lines, line = [], ""
    for row in rows:
        cell = "{" + ",".join(f"{x:#x}" if x > 9 else str(x) for x in row) + "},"
        if len(line) + len(cell) > 118:
            lines.append(line)
            line = ""
        line += cell
    lines.append(line)
    return f"constexpr {declaration}[] = {{\n" + "\n".join(lines) + "\n};\n"


def category_ranges(letter):
    return [r[:2] for r in ranges((c, database.category(chr(c))[0] == letter) for c in CODE_POINTS)]


def decompositions():
    for code in CODE_POINTS:
        text = database.decomposition(chr(code))
        if text and not text.startswith("<") and code not in HANGUL:
            parts = [int(x, 16) for x in text.split()]
            yield code, parts[0], parts[1] if len(parts) > 1 else 0


def main():
    splits = list(decompositions())
    # A composition is a decomposition that NFC takes back: the exclusions stay decomposed.
    joins = sorted((a, b, c) for c, a, b in splits if b and database.normalize("NFC", chr(c)) == chr(c))
    classes = ranges((c, database.combining(chr(c))) for c in CODE_POINTS)
    with open(sys.argv[1], "w") as out:
        out.write(f"// Unicode {database.unidata_version}, written by cmake/generate_unicode_tables.py\n")
        out.write("// clang-format off\n")
        out.write(table("Range kLetters", category_ranges("L")))
        out.write(table("Range kNumbers", category_ranges("N")))
        out.write(table("ClassRange kCombiningClasses", classes))
        out.write(table("Decomposition kDecompositions", splits))
        out.write(table("Composition kCompositions", joins))
        out.write("// clang-format on\n")


if __name__ == "__main__":
    main()
