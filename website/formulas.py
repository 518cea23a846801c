"""Formulas as docstrings write them, to MathML: browsers draw it, with no script and no font.

A ```math fence has one formula a line, in Unicode that reads as it stands,

    L = ln Σ_j v_j · e^(x_j),    x_j = (s_j - s⁺) / temperature

or in LaTeX where that says more. Three spaces or more are a wide gap, two a narrow one.
"""

import html
import re

from latex2mathml.converter import convert

FUNCTIONS = {"ln", "max", "min"}
SIGNS = str.maketrans(
    {
        "Σ": r"\sum ",
        "·": r"\cdot ",
        "∝": r"\propto ",
        "⁺": "^+",
        "²": "^2",
        "³": "^3",
        "⁴": "^4",
        "₁": "_1",
        "₂": "_2",
        "#": r"\#",
        "*": r"^\ast ",
    }
)
# LaTeX's own commands come first, so that they stay as they are.
WORD = re.compile(r"\\[A-Za-z]+|[A-Za-z]{2,}(?:_[A-Za-z]{2,})*")


def to_latex(formula):
    """A formula in Unicode as LaTeX; LaTeX stays as it is."""
    formula = re.sub(r"\^\(([^()]*)\)", r"^{\1}", formula.strip())
    formula = WORD.sub(_word, formula)
    formula = formula.replace(r"\ln ", r"\ln\, ")
    formula = re.sub(" {3,}", r" \\qquad ", formula)
    return re.sub(" {2}", r" \\; ", formula).translate(SIGNS)


def _word(found):
    word = found[0]
    if word.startswith("\\"):
        return word
    if word in FUNCTIONS:
        return f"\\{word}"
    return r"\text{" + word.replace("_", r"\_") + "}"


def to_mathml(source, language, css_class, options, md, **kwargs):
    """A fence's formulas, one a line: the `format` of a fence of pymdownx.superfences."""
    return "".join(
        f'<div class="{css_class}" title="{html.escape(line.strip())}">'
        f"{convert(to_latex(line), display='block')}</div>"
        for line in source.splitlines()
        if line.strip()
    )
