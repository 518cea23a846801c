"""The pages a reader follows, and the code blocks in them."""

import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
GUIDE = ROOT / "docs" / "pipelines.md"
# Their Python blocks need a file of ratings and what the commands make of it.
ON_RATINGS = ROOT / "README.md", GUIDE
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """The texts of a page's fences of a language, in their order."""
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


def commands(block):
    """The words of each command of a block, without loops, comments and variables set before it."""
    for line in block.replace("\\\n", " ").splitlines():
        # Variables of loops are numbers here.
        words = shlex.split(re.sub(r"\$\w+", "1", line), comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words and words[0] not in ("for", "done", "export"):
            yield words


def make(*arguments):
    """What `make` does from the clone, whatever runs the tests."""
    # Make's own flags of the run that a test is in are not meant for it, nor are its ARGS.
    environment = {
        name: value for name, value in os.environ.items() if "MAKE" not in name and name != "ARGS"
    }
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
