"""What is known of candidates and of rows, as structures of tensors."""

from typing import Any, NamedTuple

import keras


class Candidates(NamedTuple):
    """Candidates that each row has of its own, as `own` of `embedding_loss` and of the task.

    With q rows of m candidates each:

    | attribute | by index | as vectors |
    | --- | --- | --- |
    | embeddings | `[n, dim]` | `[q, m, dim]` |
    | index | `[q, m]` | |
    | ids, weight, mask | `[q, m]` | `[q, m]` |
    | features | `[n, ...]` | `[q, m, ...]` |

    By index, the candidates of a row are rows of `embeddings`. Each item is embedded once, however
    many rows have it, and the vectors of the rows exist for a block at a time. As vectors,
    candidates may be what no table has, e.g. mixtures of items.

    The package itself also holds the candidates that all rows share in such a structure, then
    without an index: `embeddings` are `[c, dim]`, and the rest begins with `[c]`.

    Attributes:
        embeddings: Vectors, which are differentiated.
        index: Integers, rows of `embeddings`; -1 for none. In compiled code a row with one that is
            out of range has a loss of NaN, or TensorFlow stops the step.
        ids: Integers. Candidates with the id of a positive of the row are not negatives of it. -1
            for a vector that is no item.
        weight: v_j ≥ 0, how many items each candidate stands for; 0 makes it absent. Or a function
            from the features of a block of rows and those of its candidates, `[block, m, ...]`, to
            `[block, m]`. Or a dict from names to such weights.
        mask: Bool, False where a candidate is absent.
        features: A tensor or a dict of tensors, for weights that are functions.
    """

    embeddings: Any = None
    index: Any = None
    ids: Any = None
    weight: Any = None
    mask: Any = None
    features: Any = None


class Rows(NamedTuple):
    """What is known of each row: tensors whose first axis is that of the queries.

    Attributes:
        weight: A factor of its loss, `[q, 1]`. Where it is 0, so is the loss.
        has_positive: Where a row has a positive, bool `[q, max_positives]`: it may have fewer.
        positive_weight: Weights of the positives in the mean of their losses,
            `[q, max_positives]`; None for 1.
        pooling_weight: Weights of the positives where they are pooled into one score,
            `[q, max_positives]`; None if they are not pooled.
        inputs: The row inputs of the loss by name, `[q, 1]` each.
        excluded: Candidates that are not negatives of the row, `[q, n]`: codes of `codes_of`, -1
            for none.
        excluded_ids: Likewise as ids, where there are own candidates with ids.
        mask: Bool `[q, c]`, False where a shared candidate is absent.
        weights: Weights of the shared candidates by name, `[q, c]` each.
        features: A tensor or a dict of tensors, for weights that are functions.
        own: The row's own `Candidates`, those tensors whose first axis is that of the queries.
    """

    weight: Any
    has_positive: Any
    positive_weight: Any = None
    pooling_weight: Any = None
    inputs: Any = None
    excluded: Any = None
    excluded_ids: Any = None
    mask: Any = None
    weights: Any = None
    features: Any = None
    own: Any = None


def flattened(structure):
    """The tensors of a structure, and a function that puts others in their places.

    Args:
        structure: Tensors in dicts and tuples, named or not; None where there is none.
    """
    leaves = keras.tree.flatten(structure)
    places = [place for place, x in enumerate(leaves) if x is not None]

    def put(tensors):
        leaves = [None] * num_leaves
        for place, x in zip(places, tensors, strict=True):
            leaves[place] = x
        return keras.tree.pack_sequence_as(structure, leaves)

    num_leaves = len(leaves)
    tensors = [leaves[place] for place in places]
    # Nothing of the tensors is held by the function.
    structure = keras.tree.pack_sequence_as(structure, [None] * num_leaves)
    return tensors, put
