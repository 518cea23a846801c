"""The site's pages: what they leave out, and how formulas become LaTeX. `make docs` builds them."""

import ast
import base64
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from website.formulas import to_latex, to_mathml
from website.notebooks import LINK, to_page

ROOT = Path(__file__).parent.parent


def public_names(package):
    """`__all__` of a package, read and not imported."""
    for node in ast.parse((ROOT / package / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{package} has no __all__")


def test_the_api_has_every_public_name():
    pages = "".join(page.read_text() for page in (ROOT / "website" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: tfrs_croloss\.(\S+)$", pages, re.MULTILINE))
    packages = {path.parent.name for path in ROOT.glob("tfrs_croloss/*/__init__.py")}
    # Which are run, and not imported.
    packages -= {"commands"}
    assert len(packages) > 5
    for package in packages:
        names = {f"{package}.{name}" for name in public_names(f"tfrs_croloss/{package}")}
        assert package in shown or names <= shown, names - shown


def test_every_page_has_its_place():
    config = (ROOT / "mkdocs.yml").read_text()
    pages = [page for page in ROOT.glob("docs/*.md") if page.read_text().startswith("# ")]
    # These have no heading.
    pages += [
        ROOT / "docs" / f"performance-{tables}.md" for tables in ("index", "loss", "evaluation")
    ]
    pages += ROOT.glob("*.md")
    shown = set(re.findall(r": (\S+\.md)$", config, re.MULTILINE))
    api = {f"api/{page.name}" for page in ROOT.glob("website/api/*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in ROOT.glob("notebooks/*.ipynb")}
    assert shown == {str(page.relative_to(ROOT)) for page in pages} | api | notebooks


def test_a_notebook_becomes_a_page(tmp_path):
    pixel = base64.b64encode(b"PNG").decode()
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Title\n\nSee [two](2-two.ipynb)."),
            new_code_cell(
                "x = 1\nx",
                outputs=[
                    new_output("stream", text="said\n"),
                    new_output("display_data", {"image/png": pixel, "text/plain": "<Figure>"}),
                    new_output("execute_result", {"text/plain": "```", "text/html": "<b>"}),
                ],
            ),
        ]
    )
    nbformat.write(notebook, tmp_path / "1-one.ipynb")
    page = to_page(tmp_path / "1-one.ipynb", tmp_path)
    assert page.read_text() == (
        "# Title\n\nSee [two](2-two.ipynb).\n\n```python\nx = 1\nx\n```\n\n```\nsaid\n```\n\n"
        "![](1-one-1.png)\n\n````\n```\n````\n"
    )
    assert (tmp_path / "1-one-1.png").read_bytes() == b"PNG"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](../notebooks/3-margins.ipynb)", "[a](../notebooks/3-margins.md)"),
        (
            "[a](1-swap-the-loss.ipynb#log-q) [b](x.ipynb)",
            "[a](1-swap-the-loss.md#log-q) [b](x.ipynb)",
        ),
        ("notebooks/3-margins.ipynb", "notebooks/3-margins.ipynb"),
    ],
)
def test_links_to_notebooks_lead_to_their_pages(text, expected):
    assert LINK.sub(r"\1.md", text) == expected


@pytest.mark.parametrize(
    ("formula", "latex"),
    [
        ("L = ln Σ_j v_j · e^(x_j)", r"L = \ln\, \sum _j v_j \cdot  e^{x_j}"),
        ("x = (s_j - s⁺) / temperature,    n", r"x = (s_j - s^+) / \text{temperature}, \qquad n"),
        (
            "r^(1/robust_temperature)  for  τ₂",
            r"r^{1/\text{robust\_temperature}} \; \text{for} \; τ_2",
        ),
        (r"\frac{a}{b}", r"\frac{a}{b}"),
    ],
)
def test_formulas(formula, latex):
    assert to_latex(formula) == latex


def test_formulas_are_mathml_one_a_line():
    drawn = to_mathml("a < b\n\nc", "math", "formula", {}, None)
    assert drawn.count("<math") == drawn.count('<div class="formula"') == 2
    assert 'title="a &lt; b"' in drawn
