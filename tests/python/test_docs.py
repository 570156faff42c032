"""Every Python block of the documentation runs, in the order of its page, against smollm2-135m."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "csrc" / "README.md"]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


def test_the_readme_has_python_to_run():
    assert blocks(ROOT / "README.md")


@pytest.mark.real_model
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page, smollm2_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__docs__"}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, Python block {number}", "exec"), names)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", CODE.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), target
