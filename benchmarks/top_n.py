"""From N to α, and from cosines to margins: what the rules give against fixed settings.

Trains matrix factorisation with each setting and seed, and writes the validation recall at each N,
each at its own best epoch, as a table and a plot. The test set is not read.
"""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from jsonargparse import auto_cli
from tqdm import tqdm

from tfrs_croloss import CROLoss, MultiMarginLoss
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.data import training_batches
from tfrs_croloss.evaluation import evaluate
from tfrs_croloss.index import build_index
from tfrs_croloss.losses import LogNormal
from tfrs_croloss.retrieval.requirements import tf_keras

matplotlib.use("agg")
import matplotlib.pyplot as plt

TOP_N = (20, 50, 100, 200)
FIXED_ALPHAS = (0.8, 1.0, 1.2, 1.4)
BASE = "alpha 1.0"
# The author's settings for Gowalla and for Yelp18.
FIXED_MARGINS = {
    "MML (.7, .8, .9), 700": {
        "margins": (0.7, 0.8, 0.9),
        "weights": (0.1, 0.15, 0.75),
        "negative_weight": 700.0,
    },
    "MML (.6, .7, .8, .9), 400": {
        "margins": (0.6, 0.7, 0.8, 0.9),
        "weights": (0.05, 0.15, 0.2, 0.6),
        "negative_weight": 400.0,
    },
}


def settings_of(num_items, temperature):
    """Functions from negatives' cosines to a loss, by name; most do not look at them."""

    def cro(**options):
        return CROLoss(lambda_kernel="sigmoid", temperature=temperature, **options)

    sized = {"num_items": num_items}
    settings = {
        f"alpha {alpha}": lambda _, a=alpha: cro(alpha=a, **sized) for alpha in FIXED_ALPHAS
    }
    for n in TOP_N:
        settings[f"for_top_n({n})"] = lambda _, n=n: CROLoss.for_top_n(
            n, num_items, lambda_kernel="sigmoid", temperature=temperature
        )
        settings[f"LogNormal({n})"] = lambda _, n=n: cro(rank_weight=LogNormal(n), **sized)
    for name, margins in FIXED_MARGINS.items():
        settings[name] = lambda _, m=margins: MultiMarginLoss(**m)
    for push in (1.0, 0.5):
        settings[f"MML from_quantiles, push {push}"] = lambda cosines, push=push: (
            MultiMarginLoss.from_quantiles(cosines, push=push)
        )
    return settings


def train(loss, data, config):
    """Trains one model; returns it and the validation metrics after each validated epoch."""
    model = build_model(config, data, loss)
    batches, steps = training_batches(
        data, config.batch_size, config.epochs, seed=config.seed, known_positives=config.mask_known
    )
    rows = []

    def validate(epoch, logs):
        if (epoch + 1) % config.validate_every and epoch + 1 < config.epochs:
            return
        evaluation = evaluate(
            build_index(model.candidate_embeddings(), "exact"),
            model.query_embeddings(data.queries()),
            data.validation,
            exclude=data.train,
            top_n=TOP_N,
        )
        rows.append({n: evaluation.metrics[f"recall@{n}"] for n in TOP_N})

    callback = tf_keras.callbacks.LambdaCallback(on_epoch_end=validate)
    model.fit(batches, epochs=config.epochs, steps_per_epoch=steps, callbacks=[callback], verbose=0)
    return model, rows


def negative_cosines(model, data, seed, size=100_000):
    """Cosines of users with random items."""
    random = np.random.default_rng(seed)
    users = model.query_embeddings(data.queries())[random.integers(len(data.users), size=size)]
    items = model.candidate_embeddings()[random.integers(len(data.items), size=size)]
    return np.sum(users * items, axis=1)


def measure(run: Config, output: Path, seeds: int = 3, only: list[str] | None = None):
    """Measures every setting, or goes on where a run was cut off.

    Args:
        run: Data, model and training, as of `tfrs-croloss train`; its temperature is
            that of all CROLosses.
        output: Path of the results, without an ending; writes .jsonl, .md and .png.
        seeds: Number of seeds, from 0; at least 2, for a deviation.
        only: Names of the settings to measure; all by default.
    """
    if seeds < 2:
        raise ValueError(f"--seeds must be at least 2. Received: {seeds}")
    data = load_data(run)
    settings = settings_of(len(data.items), run.temperature)
    # The plot shows all others against it.
    names = [name for name in settings if only is None or name in [BASE, *only]]
    log = output.with_suffix(".jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(row["setting"], row["seed"]) for row in results}
    todo = [(seed, name) for seed in range(seeds) for name in names if (name, seed) not in done]
    cosines = {}
    for seed, name in tqdm(todo, unit=" runs"):
        # The losses have the temperature; the task would divide by it once more.
        config = replace(run, seed=seed, temperature=None)
        if "quantiles" in name and seed not in cosines:
            # Margins want a trained model's cosines: those of the softmax.
            softmax = replace(config, loss="SoftmaxLoss", temperature=run.temperature)
            softmax, _ = train(None, data, softmax)
            cosines[seed] = negative_cosines(softmax, data, seed)
        _, rows = train(settings[name](cosines.get(seed)), data, config)
        best = {str(n): max(row[n] for row in rows) for n in TOP_N}
        results.append({"setting": name, "seed": seed, "recall": best})
        with log.open("a") as file:
            file.write(json.dumps(results[-1]) + "\n")
    recalls = {
        name: np.array(
            [[row["recall"][str(n)] for n in TOP_N] for row in results if row["setting"] == name]
        )
        for name in names
    }
    output.with_suffix(".md").write_text(table(recalls))
    plot(recalls, output.with_suffix(".png"))


def table(recalls):
    """Mean ± deviation over the seeds, as Markdown; the best mean at each N is bold."""
    means = {name: rows.mean(axis=0) for name, rows in recalls.items()}
    best = np.max(list(means.values()), axis=0)
    lines = ["| setting | " + " | ".join(f"Recall@{n}" for n in TOP_N) + " |"]
    lines.append("| --- " * (len(TOP_N) + 1) + "|")
    for name, rows in recalls.items():
        cells = []
        for mean, deviation, top in zip(means[name], rows.std(axis=0, ddof=1), best, strict=True):
            cell = f"{mean:.4f} ± {deviation:.4f}".replace("0.", ".")
            cells.append(f"**{cell}**" if mean == top else cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(recalls, path):
    """Each setting's recall against that of α = 1, at each N."""
    base = recalls[BASE].mean(axis=0)
    families = {"alpha": "o-", "for_top_n": "s--", "LogNormal": "^:", "MML": "x-."}
    figure, panels = plt.subplots(1, len(families), figsize=(15, 5))
    for panel, (family, style) in zip(panels, families.items(), strict=True):
        for name, rows in recalls.items():
            if name.startswith(family):
                gain = 100 * (rows.mean(axis=0) / base - 1)
                error = 100 * rows.std(axis=0, ddof=1) / base
                panel.errorbar(TOP_N, gain, error, fmt=style, capsize=2, label=name)
        panel.axhline(0, color="gray", linewidth=0.8)
        panel.set(xscale="log", xlabel="N", title=family)
        panel.set_xticks(TOP_N, TOP_N)
        panel.minorticks_off()
        # What is far below would flatten the rest; the table has it.
        panel.set_ylim(bottom=max(panel.get_ylim()[0], -25))
        panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.18))
    panels[0].set_ylabel(f"Recall@N against {BASE}, %")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    auto_cli(measure, as_positional=False)
