"""The notebooks as pages of the site.

    python -m website.notebooks build/docs

writes notebooks/*.ipynb there as Markdown, pictures beside it, and has all pages link to these.
"""

import base64
import re
import sys
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
LINK = re.compile(r"(\]\([^)\s]*\d-[\w-]+)\.ipynb(?=[)#])")


def to_page(path, folder):
    """Writes a notebook as a page.

    Args:
        path: The notebook.
        folder: Where the page and its pictures go.

    Returns:
        The path of the page.
    """
    parts, pictures = [], 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(_fenced("python", cell.source))
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                picture = folder / f"{path.stem}-{pictures}.png"
                picture.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![]({picture.name})")
            else:
                parts.append(_fenced("", output.get("text") or data["text/plain"]))
    page = folder / f"{path.stem}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _fenced(language, text):
    # A fence longer than any in the text.
    fence = "`" * max([3, *(len(found) + 1 for found in re.findall("`{3,}", text))])
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def main(folder):
    """Adds the notebooks to the folder of the site's pages."""
    (folder / "notebooks").mkdir()
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        to_page(path, folder / "notebooks")
    for page in folder.rglob("*.md"):
        page.write_text(LINK.sub(r"\1.md", page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
