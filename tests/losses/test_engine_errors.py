"""What `embedding_loss` refuses in an eager call, by the name of the argument."""

import numpy as np
import pytest

from tests.losses.embeddings import (
    CANDIDATES,
    DIM,
    FEW_KNOWN,
    IDS,
    INDEX,
    NUM_CANDIDATES,
    NUM_QUERIES,
    OWN,
    QUERIES,
    SEVERAL,
)
from tfrs_croloss import CROLoss, embedding_loss

NAN = np.where(np.arange(DIM) == 2, np.nan, QUERIES[:1]).astype("float32")
WRONG = [
    ("loss", {"loss": "cro"}),
    ("reduction", {"reduction": "max"}),
    ("num_hard_negatives", {"num_hard_negatives": 0}),
    ("num_hard_negatives", {"num_hard_negatives": 2.5}),
    ("block_size", {"block_size": 0}),
    ("block_size", {"block_size": "large"}),
    ("queries", {"queries": QUERIES[0]}),
    ("queries", {"queries": QUERIES + NAN}),
    ("queries", {"queries": QUERIES * np.float32(np.inf)}),
    ("candidates", {"candidates": CANDIDATES[:, :3]}),
    ("candidates", {"candidates": CANDIDATES[None]}),
    ("candidates", {"candidates": CANDIDATES + NAN}),
    ("candidates", {"candidates": CANDIDATES[:3]}),
    ("positives", {"positives": OWN[:3]}),
    ("positives", {"positives": OWN[:, :3]}),
    ("positives", {"positives": OWN[0]}),
    ("positives", {"positives": OWN + NAN}),
    ("positives", {"positives": OWN, "positive_index": INDEX}),
    ("positive_index", {"positive_index": INDEX[:3]}),
    ("positive_index", {"positive_index": INDEX + 1}),
    ("positive_index", {"positive_index": INDEX - 1}),
    ("positive_index", {"positive_index": SEVERAL[None]}),
    ("candidate_ids", {"candidate_ids": IDS[:3]}),
    ("candidate_ids", {"candidate_ids": np.concatenate([IDS, IDS])}),
    ("candidate_ids", {"candidate_ids": IDS[:, None]}),
    ("candidate_ids", {"known_positive_ids": FEW_KNOWN}),
    ("candidate_ids", {"positives": OWN, "positive_ids": IDS[:NUM_QUERIES]}),
    ("known_positive_ids", {"candidate_ids": IDS, "known_positive_ids": FEW_KNOWN[:3]}),
    ("known_positive_ids", {"candidate_ids": IDS, "known_positive_ids": FEW_KNOWN[None]}),
    ("positive_ids", {"candidate_ids": IDS, "positives": OWN, "positive_ids": IDS}),
    ("candidate_weight", {"candidate_weight": np.ones(NUM_QUERIES)}),
    ("candidate_weight", {"candidate_weight": np.ones([NUM_CANDIDATES, NUM_QUERIES])}),
    ("candidate_weight", {"candidate_weight": -np.ones(NUM_CANDIDATES)}),
    ("candidate_weight", {"candidate_weight": np.full(NUM_CANDIDATES, np.nan)}),
    ("candidate_weight", {"candidate_weight": np.full(NUM_CANDIDATES, np.inf)}),
    ("score_mask", {"score_mask": np.ones(NUM_QUERIES, bool)}),
    ("score_mask", {"score_mask": np.ones([NUM_QUERIES, 1], bool)}),
    ("sample_weight", {"sample_weight": np.ones(NUM_CANDIDATES)}),
    ("sample_weight", {"sample_weight": np.ones([NUM_QUERIES, 2])}),
    ("sample_weight", {"sample_weight": [[1.0], [1.0, 2.0]]}),
    ("sample_weight", {"sample_weight": "x"}),
    ("candidate_weight", {"candidate_weight": [[1.0], [1.0, 2.0]]}),
    ("known_positive_ids", {"candidate_ids": IDS, "known_positive_ids": [[1], [2, 3]]}),
]


@pytest.mark.parametrize(
    ("name", "wrong"), WRONG, ids=[f"{name} {i}" for i, (name, _) in enumerate(WRONG)]
)
def test_a_wrong_argument_is_named(name, wrong):
    right = {"loss": CROLoss(), "queries": QUERIES, "candidates": CANDIDATES}
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        embedding_loss(**{**right, **wrong})
