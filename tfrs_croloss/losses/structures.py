"""What is known of candidates and of rows, as two structures; and as the flat tensors of both."""

from typing import Any, NamedTuple

import keras


class Candidates(NamedTuple):
    """Candidates: those that all rows share, or as `own` of `embedding_loss` each row's own.

    | attribute | shared | own, as vectors | own, by index |
    | --- | --- | --- | --- |
    | embeddings | `[c, dim]` | `[q, m, dim]` | `[n, dim]` |
    | index | | | `[q, m]` |
    | features | `[c, ...]` | `[q, m, ...]` | `[n, ...]` |
    | all else | `[c]` | `[q, m]` | `[q, m]` |

    By index a row's own are rows of `embeddings`, which are embedded once however many rows have
    them: the vectors exist for a block of rows at a time. As vectors they may be what no table has,
    e.g. mixtures of items.

    Attributes:
        embeddings: Vectors, which are differentiated. `own` by index has an `embeddings` of its
            own, so that not all that it names are shared by all rows.
        index: Integers, rows of `embeddings`; -1 for none.
        ids: Integers: candidates with the id of a positive of the row are no negatives of it.
        weight: v_j ≥ 0, how many items each stands for; or a dict from names to weights. Each an
            array, or a function from the features of a block's rows and those of the candidates to
            `[rows, candidates]`. 0 makes a candidate absent.
        mask: Bool, False where a candidate is absent.
        features: A tensor or a dict of tensors, for functions of weights.
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
        has_positive: Which of its positives it has, bool `[q, max_positives]`.
        positive_weight: What the loss of each counts for in their mean, `[q, max_positives]`; None
            for 1.
        pooling_weight: What each counts for where they are pooled into one score,
            `[q, max_positives]`; None if they are not.
        inputs: The row inputs of the loss by name, `[q, 1]`.
        excluded: What is no negative of the row, `[q, n]`: codes of `codes_of`, -1 for none.
        excluded_ids: Likewise as ids, where there are own candidates with ids.
        mask: Bool `[q, c]`, False where a candidate is absent.
        weights: Weights of the candidates by name, `[q, c]`.
        features: A tensor or a dict of tensors, for functions of weights.
        own: The row's own `Candidates`, without what is no row's.
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
