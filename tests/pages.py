"""The pages a reader follows, and the code blocks in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """The texts of a page's fences of a language, in their order."""
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]
