"""The measures, written from their definitions in Python's own floats."""

import math


def top(scores, excluded, n):
    """The n best positions that are not excluded, ties in the order of positions."""
    allowed = [i for i in range(len(scores)) if i not in excluded]
    return sorted(allowed, key=lambda i: (-scores[i], i))[:n]


def measure(lists, targets, n, catalogue):
    """Metrics over users with targets.

    Args:
        lists: A list of positions for each user.
        targets: For each user a set of test items: positions, and anything else for those that
            are not in the catalogue.
        n: List length.
        catalogue: The positions whose coverage is asked for.
    """
    recalls, ndcgs, mrrs, shown = [], [], [], set()
    for ranked, wanted in zip(lists, targets, strict=True):
        if not wanted:
            continue
        shown.update(ranked[:n])
        ranks = [rank for rank, item in enumerate(ranked[:n], start=1) if item in wanted]
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(n, len(wanted)) + 1))
        recalls.append(len(ranks) / len(wanted))
        ndcgs.append(sum(1 / math.log2(rank + 1) for rank in ranks) / ideal)
        mrrs.append(1 / ranks[0] if ranks else 0.0)
    per_user = {f"recall@{n}": recalls, f"ndcg@{n}": ndcgs, f"mrr@{n}": mrrs}
    means = {name: sum(values) / len(values) for name, values in per_user.items()}
    return per_user, means | {f"coverage@{n}": len(shown & set(catalogue)) / len(catalogue)}
