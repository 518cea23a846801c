"""Recall against queries per second: the library's indexes, and those of others.

    python -m benchmarks.index --run runs/NAME

takes a run's items, multiplied to a million with noise, and asks for the best 100 of its users'.
Prints and writes the table of docs/serving.md. The peers are of the group `benchmarks`; one that is
not installed is left out. In each round every entry answers all queries once, in one batch; the
figures are medians over the rounds.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gc
import importlib.util
import json
import platform
import time
from pathlib import Path

import matplotlib
import numpy as np
from jsonargparse import auto_cli
from tqdm import tqdm

from tfrs_croloss.commands.trained import TrainedRun
from tfrs_croloss.index import ExactIndex, ScaNNIndex
from tfrs_croloss.retrieval.requirements import tf, tfrs
from tfrs_croloss.serving.search import ExactSearch

matplotlib.use("agg")
import matplotlib.pyplot as plt

K = 100
# Cosine of an item's copies with it.
COPY_COSINE = 0.9
TARGETS = (0.8, 0.9, 0.95, 0.99, 0.999)
THREADS = os.cpu_count()
EXACT, APPROXIMATE = "exact", "approximate"
OURS = "ScaNNIndex, target "
OUR_EXACT, OUR_EXPORT = "ExactIndex", "the export, TensorFlow's own ops"


def catalogue(items, size, seed=0):
    """Rows drawn from the items, turned by noise until their cosine with them is `COPY_COSINE`."""
    rng = np.random.default_rng(seed)
    source = items[rng.integers(len(items), size=size)]
    norm = np.linalg.norm(source, axis=1, keepdims=True)
    noise = rng.standard_normal(source.shape, np.float32)
    noise -= np.sum(noise * source, axis=1, keepdims=True) / norm**2 * source
    noise *= norm / np.linalg.norm(noise, axis=1, keepdims=True)
    return COPY_COSINE * source + np.sqrt(1 - COPY_COSINE**2, dtype=np.float32) * noise


def exact_entries(candidates):
    """Functions that build, each to a function from queries to positions; by name."""

    def plain():
        table = tf.constant(candidates)

        @tf.function(input_signature=[tf.TensorSpec([None, candidates.shape[1]])])
        def search(queries):
            return tf.math.top_k(tf.matmul(queries, table, transpose_b=True), K).indices

        return _in_batches(search)

    def exported():
        module = ExactSearch(candidates)

        @tf.function(input_signature=[tf.TensorSpec([None, candidates.shape[1]])])
        def search(queries):
            nothing = tf.zeros([tf.shape(queries)[0] + 1], tf.int64)
            seen = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), nothing)
            return module(queries, seen, K)[0]

        return _in_batches(search)

    def of_tfrs():
        layer = tfrs.layers.factorized_top_k.BruteForce(k=K)
        layer.index(tf.constant(candidates))
        return _in_batches(lambda queries: layer(queries)[1])

    def of_scann():
        from scann.scann_ops.py import scann_ops_pybind as scann

        searcher = scann.builder(candidates, K, "dot_product").score_brute_force().build()
        return lambda queries: searcher.search_batched_parallel(queries)[0]

    def ours():
        index = ExactIndex(candidates)
        return lambda queries: index.search(queries, K).positions

    entries = {
        OUR_EXACT: ours,
        "ScaNN brute force": of_scann,
        OUR_EXPORT: exported,
        "TensorFlow matmul + top_k": plain,
        "TFRS BruteForce": of_tfrs,
    }
    if importlib.util.find_spec("faiss"):
        import faiss

        def flat():
            index = faiss.IndexFlatIP(candidates.shape[1])
            index.add(candidates)
            return lambda queries: index.search(queries, K)[1]

        entries["FAISS IndexFlatIP"] = flat
    return entries


def approximate_entries(candidates, samples):
    """Functions that build, each to a dict from a setting to a search; by name."""

    def with_target(target):
        def build():
            index = ScaNNIndex(candidates, target, samples)
            (leaves, _), (reordered, _) = index.reach.leaves, index.reach.reordered
            setting = f"{leaves} of {index.num_leaves} leaves, {reordered} re-ordered"
            return {setting: lambda queries: index.search(queries, K).positions}

        return build

    entries = {f"{OURS}{target}": with_target(target) for target in TARGETS}
    dim = candidates.shape[1]
    if importlib.util.find_spec("faiss"):
        import faiss

        def hnsw():
            index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 100
            index.add(candidates)

            def search(queries, ef):
                index.hnsw.efSearch = ef
                return index.search(queries, K)[1]

            return {f"efSearch {ef}": _with(search, ef) for ef in (100, 200, 400, 800)}

        def ivf_pq():
            leaves = round(len(candidates) ** 0.5)
            index = faiss.index_factory(
                dim, f"IVF{leaves},PQ{dim // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT
            )
            index.train(candidates)
            index.add(candidates)
            ivf = faiss.extract_index_ivf(index)

            def search(queries, sizes):
                ivf.nprobe, index.k_factor = sizes
                return index.search(queries, K)[1]

            grid = [(nprobe, factor) for factor in (5, 20, 80) for nprobe in (10, 20, 40, 80)]
            return {
                f"nprobe {nprobe}, {factor * K} re-ordered": _with(search, (nprobe, factor))
                for nprobe, factor in grid
            }

        entries["FAISS HNSW32"] = hnsw
        entries["FAISS IVF-PQ fast scan"] = ivf_pq
    if importlib.util.find_spec("usearch"):
        from usearch.index import Index

        def usearch():
            index = Index(ndim=dim, metric="ip", dtype="f32")
            index.add(np.arange(len(candidates)), candidates, threads=THREADS)

            def search(queries, ef):
                index.expansion_search = ef
                return index.search(queries, K, threads=THREADS).keys

            return {f"expansion {ef}": _with(search, ef) for ef in (100, 200, 400, 800)}

        entries["usearch"] = usearch
    return entries


def measure(
    run: str,
    num_candidates: int = 1_000_000,
    num_queries: int = 1024,
    rounds: int = 3,
    output: Path = Path("docs/performance-index"),
    peers: bool = True,
):
    """Builds every index, and measures recall and time in turn.

    Args:
        run: Folder of a complete run, whose items and users are taken.
        num_candidates: Size of the catalogue.
        num_queries: Users asked for; as many others serve ScaNNIndex to choose its reach.
        rounds: How often each entry answers.
        output: Path of the results, without an ending; writes .json, .md and .png.
        peers: Whether to measure the libraries of others, too.
    """
    trained = TrainedRun(run)
    candidates = catalogue(trained.model.candidate_embeddings(), num_candidates)
    users = trained.model.query_embeddings(trained.measure.queries())
    users = np.random.default_rng(1).permutation(users)
    queries, samples = users[:num_queries], users[num_queries : 2 * num_queries]
    truth = np.sort(ExactIndex(candidates).search(queries, K).positions, axis=1)

    builders = [(EXACT, *entry) for entry in exact_entries(candidates).items()]
    builders += [
        (APPROXIMATE, *entry) for entry in approximate_entries(candidates, samples).items()
    ]
    if not peers:
        builders = [entry for entry in builders if "usearch" not in entry[1]]
        builders = [entry for entry in builders if "FAISS" not in entry[1]]
    entries = []
    for kind, name, build in (bar := tqdm(builders, unit=" indexes")):
        bar.set_description(f"building {name}")
        gc.collect()
        before, start = _resident_bytes(), time.perf_counter()
        searches = build()
        built = {
            "seconds to build": time.perf_counter() - start,
            "bytes an item": (_resident_bytes() - before) / num_candidates,
        }
        searches = searches if isinstance(searches, dict) else {"": searches}
        for setting, search in searches.items():
            row = {"kind": kind, "index": name, "setting": setting, **built, "seconds": []}
            entries.append((search, row))
    for _ in tqdm(range(rounds), unit=" rounds"):
        for search, row in entries:
            search(queries[:64])
            start = time.perf_counter()
            positions = np.asarray(search(queries))
            row["seconds"].append(time.perf_counter() - start)
            row["recall"] = _recall(positions, truth)
    rows = [row for _, row in entries]
    for row in rows:
        row["queries a second"] = num_queries / float(np.median(row.pop("seconds")))
    fastest = max(row["queries a second"] for row in rows if _is_exact_peer(row))
    for row in rows:
        row["to the fastest exact peer"] = row["queries a second"] / fastest
    results = {
        "run": run,
        "candidates": num_candidates,
        "dim": candidates.shape[1],
        "queries in a batch": num_queries,
        "k": K,
        "threads": THREADS,
        "machine": platform.processor() or platform.machine(),
        "rows": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    output.with_suffix(".md").write_text(text)
    plot(rows, output.with_suffix(".png"))
    print(text)


def table(results):
    """The results as Markdown."""
    rows = results["rows"]
    lines = [
        "# Recall against queries a second",
        "",
        "```bash",
        f".venv/bin/python -m benchmarks.index --run {results['run']}",
        "```",
        "",
        "The run is of [serving](serving.md#recall-against-speed).",
        f"{results['candidates']:,} candidates x {results['dim']} dimensions, "
        f"{results['queries in a batch']:,} queries in a batch, k = {results['k']}, "
        f"{results['threads']} threads.",
        "",
        "| index | setting | recall@100 | queries/s | to the fastest exact peer | built in, s "
        "| bytes an item |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['index']} | {row['setting']} | {row['recall']:.4f} "
        f"| {row['queries a second']:,.0f} | {row['to the fastest exact peer']:.2f} "
        f"| {row['seconds to build']:.1f} | {row['bytes an item']:,.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def plot(rows, path):
    """Recall against queries per second, a line for an index."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    curves = {}
    for row in rows:
        name = "ScaNNIndex, by target" if row["index"].startswith(OURS) else row["index"]
        curves.setdefault(name, []).append((row["recall"], row["queries a second"]))
    for name, points in curves.items():
        points = _best_of(points)
        axes.plot(
            [1 - min(recall, 0.9999) for recall, _ in points],
            [speed for _, speed in points],
            marker="o" if len(points) > 1 else "x",
            linewidth=2.5 if name.startswith("ScaNNIndex") else 1.2,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="recall@100", ylabel="queries a second")
    ticks = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
    axes.set_xticks([1 - tick for tick in ticks], [*map(str, ticks[:-1]), "1"])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _best_of(points):
    """Those points that no other one is better than in both ways."""
    points = sorted(set(points))
    return [(r, s) for r, s in points if not any(r2 >= r and s2 > s for r2, s2 in points)]


def _is_exact_peer(row):
    return row["kind"] == EXACT and row["index"] not in (OUR_EXACT, OUR_EXPORT)


def _recall(positions, truth):
    found = [len(np.intersect1d(a, b)) for a, b in zip(positions, truth, strict=True)]
    return float(np.mean(found)) / truth.shape[1]


def _in_batches(search, size=64):
    """More scores at once would not fit into memory, for those that hold them all."""

    def search_all(queries):
        starts = range(0, len(queries), size)
        return np.concatenate([search(queries[start : start + size]).numpy() for start in starts])

    return search_all


def _with(search, setting):
    return lambda queries: search(queries, setting)


def _resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    auto_cli(measure, as_positional=False)
