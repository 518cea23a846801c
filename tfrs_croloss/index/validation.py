"""Checks of what the caller passes in, shared by every index and by the evaluation."""

import numpy as np

# Rows that a message names.
_SHOWN = 5


def as_embeddings(name, array, dim=None, copy=False):
    """Returns `array` as a contiguous float32 matrix with finite entries.

    Args:
        name: str. The argument's name, for the messages.
        array: array-like of numbers, `[num_rows, dim]`.
        dim: int. The embedding dimension asked for; None takes any.
        copy: bool. Whether the result must not share memory with `array`.

    Returns:
        C-contiguous float32 array, `[num_rows, dim]`.

    Raises:
        ValueError: if `array` is no matrix of numbers, has another `dim`, or holds NaN or infinity,
            also when the cast to float32 is what made the infinity.

    >>> as_embeddings("queries", [[1, 2], [3, 4]], dim=2).dtype
    dtype('float32')
    """
    try:
        # An overflow in the cast is reported below, with its row; numpy's warning has no row.
        with np.errstate(over="ignore"):
            embeddings = np.array(array, np.float32, order="C", copy=True if copy else None)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be an array of numbers, its rows of one length. Received: "
            f"{type(array).__name__} ({error})"
        ) from error
    if embeddings.ndim != 2:
        raise ValueError(
            f"`{name}` must have shape [num_rows, embedding_dim]; wrap a single vector as "
            f"`{name}[None, :]`. Received: shape {embeddings.shape}"
        )
    if dim is not None and embeddings.shape[1] != dim:
        raise ValueError(
            f"`{name}` must have the candidates' embedding dimension ({dim}). "
            f"Received: shape {embeddings.shape}"
        )
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        shown = ", ".join(map(str, rows[:_SHOWN])) + ", …" * (len(rows) > _SHOWN)
        raise ValueError(
            f"`{name}` must be finite in float32. Received: NaN or inf in {len(rows)} of "
            f"{len(finite)} rows: {shown}"
        )
    return embeddings


def as_positions(name, positions, num_candidates):
    """Returns positions of candidates, ascending and each once.

    Args:
        name: str. The argument's name, for the messages.
        positions: array-like of ints, `[num_positions]`.
        num_candidates: int. How many candidates there are.

    Returns:
        int64 array, `[at most num_positions]`.

    Raises:
        ValueError: if they are no integers, or there is no such candidate.

    >>> as_positions("allowed", [3, 1, 3], num_candidates=4).tolist()
    [1, 3]
    """
    array = np.asarray(positions)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"`{name}` must be a list of integers; of a mask, `np.flatnonzero(mask)`. "
            f"Received: {array.dtype} of shape {array.shape}"
        )
    unique = np.unique(array).astype(np.int64)
    if unique.size and not 0 <= unique[0] <= unique[-1] < num_candidates:
        raise ValueError(
            f"`{name}` must be positions from 0 to {num_candidates - 1}. "
            f"Received: {unique[0] if unique[0] < 0 else unique[-1]}"
        )
    return unique
