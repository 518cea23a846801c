"""The wheel, built from what the repository holds."""

import shutil
import subprocess
import sys

from tests.pages import ROOT


def build_wheel(folder):
    """Builds a source archive into a folder, and from it the wheel, whose path it returns.

    As CONTRIBUTING.md says, but from a copy, since setuptools writes beside setup.py, and takes
    what an older build left there.
    """
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    copy = folder / "copy"
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    command = ["build", "--no-isolation", "--outdir", str(folder), str(copy)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
