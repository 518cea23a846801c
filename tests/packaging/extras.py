"""Installs the wheel into clean environments, with each extra alone, and uses what it brings.

    make test-packaging

downloads about 3 GB, and takes minutes: `make test` looks at the wheel alone (`test_wheel.py`), and
CI installs what the README tells users to. For each version of Python it first asks whether all
extras resolve to wheels, which installs nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.packaging.wheel import build_wheel
from tests.pages import ROOT, blocks

# What an extra is for, by use. Where it brings no backend for Keras 3, that is left to the user:
# here it is JAX, the smallest.
JAX = ["jax>=0.10,<0.11"], {"KERAS_BACKEND": "jax"}
SEARCH = """
import numpy as np
from tfrs_croloss.index import build_index
items = np.random.default_rng(0).normal(size=[2000, 8])
assert build_index(items, {kind!r}).search(items[:2], k=3).positions.shape == (2, 3)
"""
# A slow disk is not the package's: what Keras imports is imported before the clock starts.
LOSSES = """
import keras, time
start = time.perf_counter()
import tfrs_croloss, numpy as np
seconds = time.perf_counter() - start
print(f"import tfrs_croloss: {seconds:.2f} s after Keras")
assert seconds < 3
assert 0 < float(tfrs_croloss.CROLoss()(np.eye(2), np.eye(2))) < 1
"""
# The README's two tasks, with our loss: where all negatives count as one, the same.
SWAP, TASK = blocks(ROOT / "README.md", "python")
TFRS = f"""
{SWAP}
import numpy as np
queries = candidates = np.eye(4, dtype="float32")
ids, batch_size, p = np.arange(4), 4, np.full(4, 1 / 3, "float32")
before = float(task(queries, candidates))
assert before > 0
{TASK}
np.testing.assert_allclose(loss, before, rtol=1e-5)
import tfrs_croloss.data, tfrs_croloss.evaluation, tfrs_croloss.serving
{SEARCH.format(kind="exact")}
"""
SPACE = "from tfrs_croloss.tuning import build_space\nbuild_space({'alpha': [0.5, 1.0]})"
# The command, as it is installed, in a folder where nothing is.
COMMAND = """
import os, subprocess, sys, tempfile
from pathlib import Path
command, folder = str(Path(sys.executable).with_name("tfrs-croloss")), Path(tempfile.mkdtemp())
os.chdir(folder)
def refused(*words):
    said = subprocess.run([command, *words], stderr=subprocess.PIPE, text=True)
    assert said.returncode == 2, said.stderr
    return said.stderr
"""
COMMANDS = f"""{COMMAND}
sys.path.insert(0, {str(ROOT / "tests" / "packaging")!r})
import installed
assert "User u1" in installed.use(command, folder)
assert 'pip install "tfrs-croloss[tune]"' in refused("tune")
assert 'pip install "tfrs-croloss[demo,scann]"' in refused("demo")
assert 'pip install "tfrs-croloss[serving]"' in refused("serve", "--model", "runs/mine/export")
"""
DEMO = f"""{COMMAND}
subprocess.run([command, "demo"], check=True)
assert (folder / "runs" / "demo" / "results.md").exists()
"""
SERVE = f"""{COMMAND}
assert "expected a folder with a version" in refused("serve", "--model", "nothing")
assert 'pip install "tfrs-croloss[pipelines]"' in refused("train")
"""
USES = {
    # extras: packages beside them, environment, code
    "": (*JAX, LOSSES),
    "tfrs": ([], {}, TFRS),
    "tfrs,scann,tune": ([], {}, f"{TFRS}\n{SEARCH.format(kind='scann')}\n{SPACE}"),
    "evaluation": (*JAX, f"import tfrs_croloss.evaluation\n{SEARCH.format(kind='exact')}"),
    "scann": ([], {}, SEARCH.format(kind="scann")),
    "tune": (*JAX, SPACE),
    "pipelines": ([], {}, COMMANDS),
    "pipelines,demo,scann": ([], {}, DEMO),
    "serving": ([], {}, SERVE),
}
EXTRAS = [*(extra for extra in USES if "," not in extra), "demo", "gpu"]
# What developers have is locked; here it is enough that it resolves.
GROUPS = ["backends", "benchmarks", "dev", "docs", "notebooks"]
PYTHONS = ("3.11", "3.12", "3.13")


def run(*command, **environment):
    print("+", *command, flush=True)
    # From elsewhere, so that nothing is imported from the clone.
    subprocess.run(
        command, cwd=tempfile.gettempdir(), env={**os.environ, **environment}, check=True
    )


def check_use(extra, wheel, folder):
    packages, environment, code = USES[extra]
    environment_folder = folder / (extra or "losses")
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    python = str(environment_folder / "bin" / "python")
    run(sys.executable, "-m", "venv", str(environment_folder))
    run(python, "-m", "pip", "install", "--quiet", wanted, *packages)
    run(python, "-c", code, **environment)


def check_resolves(more, python):
    platform = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    build = ["--no-build-isolation", "--python", sys.executable]
    files = [str(ROOT / "pyproject.toml"), "--output-file", os.devnull]
    resolve = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
    run(*resolve, *files, *more, *platform, *build)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", default=[*USES], help="extras to install; '' is the package alone"
    )
    parser.add_argument("--pythons", nargs="*", default=PYTHONS, help="to resolve for; may be none")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - USES.keys():
        parser.error(f"--only must name extras of {[*USES]}. Received: {sorted(unknown)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for python in arguments.pythons:
            for extra in EXTRAS:
                check_resolves(["--extra", extra] if extra else [], python)
            for group in GROUPS:
                check_resolves(["--group", f"{ROOT}/pyproject.toml:{group}"], python)
        wheel = build_wheel(folder)
        for extra in arguments.only:
            check_use(extra, wheel, folder)
    print(f"{len(arguments.pythons) * len(EXTRAS + GROUPS) + len(arguments.only)} passed, 0 failed")


if __name__ == "__main__":
    main()
