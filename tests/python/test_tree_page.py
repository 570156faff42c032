"""The page of draft trees: everything is in it once, nothing breaks out of it, a browser runs it."""

import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from forerun import Engine, Sampling, tree_page
from forerun.cli import run
from forerun.tree_page import Growth, Step, Token
from forerun.types import StepTree, TreeNode
from tiny_files import make, write_gguf

TINY = {
    "architecture": "llama",
    "layers": 2,
    "width": 64,
    "ffn": 96,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "rotary": 16,
    "vocab": 260,
    "epsilon": 1e-5,
}
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    " \n\t",
    "</svg>",
    "&amp;",
    "{{ 7 * 7 }}",
    "\x1b",
]


class Page(HTMLParser):
    """Nodes as (classes, name, tip, geometry), the text strip, scripts, and what is loaded from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nodes, self.words, self.loads, self.open, self.scripts = [], [], [], [], 0
        self.field = None
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        classes = (values.get("class") or "").split()
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)
        self.loads += [
            value for name, value in attributes if name in ("src", "href", "xlink:href") and value != "data:,"
        ]
        self.scripts += tag == "script"
        self.field = None
        if tag == "g" and "node" in classes:
            self.nodes.append({"classes": classes, "name": "", "tip": "", "edge": None})
        elif tag == "rect":
            self.nodes[-1] |= {name: float(values[name]) for name in ("x", "y", "width", "height")}
        elif tag == "path":
            self.nodes[-1]["edge"] = values["d"]
        elif tag == "title" and self.nodes:
            self.field = "tip"
        elif tag == "text" and "name" in classes:
            self.field = "name"
        elif tag == "b":
            self.words.append({"classes": classes, "text": ""})
            self.field = "word"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.field = None

    def handle_data(self, data):
        if self.field == "word":
            self.words[-1]["text"] += data
        elif self.field:
            self.nodes[-1][self.field] += data

    def kind(self, name):
        return [node for node in self.nodes if name in node["classes"]]


def step_of(nodes, path, bonus, texts=None, number=1):
    """nodes: (parent, score, source) after the root; tokens are their indices unless `texts` names them."""
    tree = StepTree(
        [TreeNode(0, -1, 1.0, "root"), *(TreeNode(i, *node) for i, node in enumerate(nodes, start=1))], path, bonus
    )
    texts = texts or {}
    ids = [*range(len(nodes) + 1), bonus]
    return Step(number, tree, [Token(i, texts.get(i, f"t{i}"), False) for i in ids], [{1: 0.25}] * len(path))


def page_of(*steps):
    return Page(tree_page.render(Growth("the prompt", "before", list(steps), {"model": "m<b>"})))


def random_step(size, seed):
    rng = random.Random(seed)
    nodes = [(rng.randrange(max(0, i - 9), i), rng.random(), rng.choice(["ngram", "model"])) for i in range(1, size)]
    children = {}
    for index, (parent, _, _) in enumerate(nodes, start=1):
        children.setdefault(parent, []).append(index)
    path = [0]
    while path[-1] in children and len(path) < 6:
        path.append(rng.choice(children[path[-1]]))
    texts = {i: "x" * rng.choice([1, 3, 12, 40]) for i in range(size)}
    return step_of(nodes, path, 999, texts)


def test_every_node_is_drawn_once_with_what_became_of_it():
    #      0 - 1 - 3 - (9)     kept: 1, 3; rejected: 2 and 4; not reached: 5
    #        \ 2 - 5  \ 4
    step = step_of(
        [(0, 0.9, "ngram"), (0, 0.1, "recycle"), (1, 0.5, "ngram"), (1, 0.2, "model"), (2, 0.3, "ngram")], [0, 1, 3], 9
    )
    page = page_of(step)
    assert sorted(node["name"] for node in page.nodes) == ["t0", "t1", "t2", "t3", "t4", "t5", "t9"]
    names = {kind: sorted(node["name"] for node in page.kind(kind)) for kind in ("root", "accepted", "rejected")}
    assert names == {"root": ["t0"], "accepted": ["t1", "t3"], "rejected": ["t2", "t4"]}
    assert [node["name"] for node in page.kind("unreached")] == ["t5"]
    assert [node["name"] for node in page.kind("bonus")] == ["t9"]
    assert [word["text"] for word in page.words] == ["t1", "t3", "t9"]
    colours = {node["name"]: next((c for c in node["classes"] if re.fullmatch(r"s\d", c)), None) for node in page.nodes}
    assert colours["t1"] == colours["t3"] == colours["t5"]
    assert len({colours[name] for name in ("t1", "t2", "t4")}) == 3
    tip = next(node["tip"] for node in page.nodes if node["name"] == "t1")
    assert "guessed by ngram, score 90%" in tip and "the target gave it 25%" in tip and "accepted" in tip
    tip = next(node["tip"] for node in page.nodes if node["name"] == "t3")
    assert "whole branch 45%" in tip and "not among its 20 likeliest" in tip
    assert "the target gave it" not in next(node["tip"] for node in page.nodes if node["name"] == "t5")


def test_a_guessed_end_token_is_the_bonus_and_not_drawn_twice():
    page = page_of(step_of([(0, 0.9, "ngram"), (1, 0.5, "ngram")], [0, 1], 2))
    assert sorted(node["name"] for node in page.nodes) == ["t0", "t1", "t2"]
    assert [node["name"] for node in page.kind("bonus")] == ["t2"]
    assert [word["text"] for word in page.words] == ["t1", "t2"]


def test_tokens_cannot_break_out_of_the_page():
    texts = dict(enumerate(NASTY, start=1))
    step = step_of([(0, 0.5, "<i>")] * len(NASTY), [0, 1], 3, texts)
    html = tree_page.render(Growth("</details><script>", "<b>", [step], {"<u>": "<s>"}))
    page = Page(html)
    assert page.scripts == 1
    assert page.loads == []
    assert len(page.nodes) == len(NASTY) + 2
    shown = {node["name"] for node in page.nodes}
    assert "<script>alert(1)</script>"[:23] + "\u2026" in shown
    assert {"\u00b7\u23ce\u21e5", "</svg>", "&amp;", "{{\u00b77\u00b7*\u00b77\u00b7}}", "\\x1b"} <= shown
    assert page.words[0]["text"] == NASTY[0]
    assert "\x1b" not in "".join(node["name"] + node["tip"] for node in page.nodes)
    assert not re.search(r"https?://|url\(|@import", html)


@pytest.mark.parametrize("seed", range(8))
def test_no_two_nodes_overlap_and_the_kept_text_is_a_straight_line(seed):
    page = page_of(random_step(64, seed))
    assert len(page.nodes) == 65
    boxes = [(node["x"], node["y"], node["x"] + node["width"], node["y"] + node["height"]) for node in page.nodes]
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        assert all(x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0 for a0, b0, a1, b1 in boxes[index + 1 :])
    assert {node["y"] for name in ("root", "accepted", "bonus") for node in page.kind(name)} == {
        page.kind("root")[0]["y"]
    }


@pytest.mark.parametrize("seed", range(8))
def test_edges_do_not_cross(seed):
    page = page_of(random_step(40, seed))
    downs = []  # vertical parts as (x, top, bottom), horizontal ones as (y, left, right, edge)
    acrosses = []
    for number, node in enumerate(page.nodes):
        if node["edge"] is None:
            continue
        x, y = node["x"], node["y"] + node["height"] / 2
        start, top = map(float, re.match(r"M([\d.]+) ([\d.]+)", node["edge"]).groups())
        bend = float(re.search(r"H([\d.]+)q", node["edge"]).group(1)) + 6 if "q" in node["edge"] else start
        if bend != start:
            downs.append((bend, top, y, number, (start, top)))
        acrosses.append((y, bend, x, number, (start, top)))
    for x, top, bottom, number, origin in downs:
        for y, left, right, other, start in acrosses:
            crosses = number != other and origin != start and left < x < right and top < y < bottom
            assert not crosses


def test_a_step_without_guesses_shows_the_targets_own_token():
    page = page_of(step_of([], [0], 7))
    assert [node["name"] for node in page.kind("bonus")] == ["t7"]
    assert page.kind("accepted") == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    files, _ = make(np.random.default_rng(5), TINY, "Q8_0", "Q8_0")
    write_gguf(path, TINY, files)
    return str(path)


def test_the_tree_of_a_step_agrees_with_what_it_emitted(tiny):
    sampling = Sampling(temperature=0.3)
    with Engine(tiny, draft="ngram+recycle", fixed_draft=12, threads=1) as engine:
        session = engine.session(sampling=sampling, seed=1)
        assert session.last_tree() is None
        session.append("abcabcabcabcabc")
        accepted = 0
        for _ in range(60):
            before = session.tokens
            emitted = session.step()
            tree = session.last_tree()
            assert tree.nodes[0] == TreeNode(before[-1], -1, 1.0, "root")
            assert tree.path[0] == 0
            assert [*(tree.nodes[index].token for index in tree.path[1:]), tree.bonus] == emitted
            assert all(tree.nodes[b].parent == a for a, b in zip(tree.path, tree.path[1:], strict=False))
            assert all(node.parent < index for index, node in enumerate(tree.nodes))
            assert all(node.source in ("ngram", "recycle") for node in tree.nodes[1:])
            assert len(tree.nodes) <= 13
            accepted += len(tree.path) - 1
            if session.state != "running":
                break
        assert accepted == session.stats.accepted > 0


def test_the_command_writes_the_steps_that_were_asked_for(tiny, tmp_path, capfd):
    out = tmp_path / "tree.html"
    words = ["tree", tiny, "abcabcabcabcabc", "--draft", "ngram+recycle", "--budget", 8, "--out", out]
    assert run([str(word) for word in [*words, "--step", 3, "--steps", 5]]) == 0
    assert capfd.readouterr().out.strip().replace("\n", "") == str(out)
    html = out.read_text()
    assert re.findall(r'<section class="card step" data-step="(\d+)"', html) == ["3", "4", "5", "6", "7"]
    page = Page(html)
    assert len(page.kind("root")) == len(page.kind("bonus")) == 5
    with Engine(tiny, draft="none", threads=1) as engine:
        plain = engine.generate("abcabcabcabcabc", max_tokens=100).tokens
    with Engine(tiny, draft="ngram+recycle", fixed_draft=8, threads=1) as engine:
        steps = tree_page.grow(engine, "abcabcabcabcabc", steps=7).steps
    emitted = [[step.tokens[index] for index in step.emitted] for step in steps]
    ids = [token.id for tokens in emitted for token in tokens]
    assert ids == plain[: len(ids)]
    assert [word["text"] for word in page.words] == [token.raw for tokens in emitted[2:] for token in tokens]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--steps", "0"], "--steps"),
        (["--out", "/no/such/folder/x.html"], "no such folder"),
        (["--out", "/"], "/ is a folder"),
        (["--step", "-1"], "--step"),
        (["--budget", "-1"], "--budget"),
    ],
)
def test_wrong_options_are_named(tiny, arguments, text, capfd):
    assert run(["tree", tiny, "x", *arguments]) == 2
    assert text in capfd.readouterr().err


def test_a_step_after_the_end_of_the_text_is_refused(tiny, tmp_path, capfd):
    words = ["tree", tiny, "abc", "--step", "600", "--out", str(tmp_path / "x.html")]
    assert run(words) == 2
    assert "ended before step 600" in capfd.readouterr().err
    assert not (tmp_path / "x.html").exists()


PROBE = """
<script>
const before = find(".step.shown").length;
one("on").click();
const node = find(".step.shown .node")[0];
node.dispatchEvent(new PointerEvent("pointermove", {clientX: 5, clientY: 5}));
const seen = {before, at, tip: tip.textContent, shown: find(".step.shown").length, titles: find("svg title").length};
one("all").click();
seen.all = find(".step").filter((step) => step.offsetParent !== null).length;
seen.narrow = find(".node").every((node) => {
  const name = node.querySelector(".name").getBBox(), rect = node.querySelector("rect").getBBox();
  return name.x >= rect.x && name.x + name.width <= rect.x + rect.width;
});
document.body.dataset.seen = JSON.stringify(seen);
</script>
"""


def test_a_browser_runs_the_page_without_an_error(tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs a browser: the package chromium of the distribution")
    texts = {1: "日本語", 2: "<script>alert(1)</script>", 3: "\u00e9\u0301", 4: " \n"}
    steps = [
        step_of([(0, 0.5, "ngram"), (1, 0.5, "model"), (1, 0.1, "model"), (0, 0.2, "ngram")], [0, 1], 9, texts, number)
        for number in (4, 5, 6)
    ]
    html = tree_page.render(Growth("p", "b", steps, {}))
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", PROBE + "</body>"))
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    found = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in found.stderr
    seen = json.loads(re.search(r'data-seen="([^"]*)"', found.stdout).group(1).replace("&quot;", '"'))
    assert seen["before"] == seen["shown"] == 1
    assert (seen["at"], seen["all"], seen["titles"], seen["narrow"]) == (1, 3, 0, True)
    assert "id" in seen["tip"]
