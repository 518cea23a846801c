"""The HTTP service under load: latency, throughput, a new version, memory, SIGTERM.

    python -m benchmarks.serving --run runs/mine --output docs/performance-serving

exports a run with a tower on users twice, the second time without leaving out what they have seen,
starts the service (`make .venv-serving/.locked` makes its environment), loads it from this machine,
and compares every answer with the scores of all items.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse
from jsonargparse import auto_cli

from tfrs_croloss.commands.trained import TrainedRun
from tfrs_croloss.serving import export_model

PYTHON = Path(".venv-serving/bin/python")

PAGE = """# The HTTP service under load

```bash
make .venv-serving/.locked
.venv/bin/python -m benchmarks.serving --run {run} --output {output}
```

A machine with {cpus} CPUs, which the server and the clients share; KServe {versions[kserve]},
TensorFlow {versions[tensorflow]}. A request asks for the {k} best of {items:,} items for one of
{users:,} users, who all take turns; each client waits for its answer before it asks again.

| clients | requests a second | p50, ms | p95, ms | p99, ms |
| --- | --- | --- | --- | --- |
{rows}

- **Answers**: {answers:,} in all, {failed} requests failed, {wrong} answers differed from an exact
  search.
- **A new version**, with {busy} clients: {swap[failed]} of {swap[requests]:,} requests failed and
  {swap[wrong]} had a wrong answer. It took over after {swap[seconds]:.1f} s; meanwhile the p99 was
  {swap[p99_ms]:.0f} ms.
- **Memory**: {first[mib]:.0f} MiB after {first[requests]:,} requests, {last[mib]:.0f} MiB after
  {last[requests]:,}.
- **SIGTERM**, with {busy} clients: after it {end[answered]} requests were answered.
  {end[sent_and_unanswered]} found their connection closing, beside those that found none. The
  process ended after {end[seconds]:.1f} s with code {end[exit_code]}.
"""


def measure(run: str, output: Path, k: int = 10, seconds: float = 5.0, requests: int = 100_000):
    """Measures the service, and writes the numbers as JSON and as a page.

    Args:
        run: Folder of a complete run with a tower on users.
        output: Path of the results, without an ending; writes .json and .md.
        k: Items a user.
        seconds: For each number of clients.
        requests: In all, while the memory is watched.
    """
    trained = TrainedRun(run)
    data, model, seen = trained.data, trained.model, trained.measure.seen()
    scores = model.query_embeddings(data.queries()) @ model.candidate_embeddings().T
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export_model(model, data, folder / "model", seen=seen)
        nothing = scipy.sparse.csr_array(seen.shape)
        export_model(model, data, folder / "other", seen=nothing).rename(folder / "next")
        unseen = np.where(seen.toarray() > 0, -np.inf, scores)
        np.savez(
            folder / "expected.npz",
            users=np.array(data.users.ids.tolist()),
            items=np.array(data.items.ids.tolist()),
            scores=np.stack([unseen, scores]),
        )
        command = [PYTHON, "-m", "benchmarks.clients", folder, str(k), str(seconds), str(requests)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    results = {
        "run": run,
        "output": str(output),
        "items": len(data.items),
        **json.loads(done.stdout),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    output.with_suffix(".md").write_text(page(results))


def page(results):
    """The results as Markdown."""
    rows = (
        f"| {row['clients']} | {row['requests_per_second']:.0f} | "
        + " | ".join(f"{row[p]:.1f}" for p in ("p50_ms", "p95_ms", "p99_ms"))
        + " |"
        for row in results["load"]
    )
    first, last = results["memory"][0], results["memory"][-1]
    return PAGE.format(
        **results | {"rows": "\n".join(rows), "first": first, "last": last, "busy": 8}
    )


if __name__ == "__main__":
    auto_cli(measure, as_positional=False)
