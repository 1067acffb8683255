"""The experiments: recipe, what the paper printed for each row, and which row it found better than which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STUDENT = "student"
"""The row of a recipe's own student; the others are its baselines."""


@dataclass(frozen=True)
class Row:
    label: str
    paper: tuple[str, ...] = ()
    """What the paper printed, one cell for each of the experiment's columns."""


@dataclass(frozen=True)
class Claim:
    """What the paper says of two rows; nDCG@10 decides here."""

    a: str
    says: Literal["better", "no better"]
    b: str


@dataclass(frozen=True)
class Picture:
    """Lines over x; a line is a list of (x, row)."""

    xlabel: str
    lines: dict[str, tuple[tuple[float, str], ...]]
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Experiment:
    title: str
    source: str
    columns: tuple[str, ...]
    """Heads of the paper's figures."""
    rows: dict[str, Row]
    claims: tuple[Claim, ...]
    here: str
    """How this differs from the paper."""
    picture: Picture | None = None


_LOSSES = Experiment(
    title="Losses from one teacher",
    source="Hofstaetter et al. 2020, Table 2 (MS MARCO DEV, 49,000 queries, teacher BERT-Base_CAT)",
    columns=("nDCG@10", "RR@10"),
    rows={
        "labels": Row("dual encoder, labels (RankNet)", (".373", ".316")),
        "weighted_ranknet": Row("dual encoder, weighted RankNet", (".384", ".326")),
        "pointwise_mse": Row("dual encoder, pointwise MSE", (".387", ".328")),
        STUDENT: Row("dual encoder, Margin-MSE", (".388", ".330")),
        "colbert_labels": Row("ColBERT, labels (RankNet)", (".417", ".357")),
        "colbert_margin_mse": Row("ColBERT, Margin-MSE", (".431", ".370")),
    },
    claims=(
        Claim(STUDENT, "better", "labels"),
        Claim("weighted_ranknet", "better", "labels"),
        Claim("pointwise_mse", "better", "labels"),
        Claim(STUDENT, "better", "pointwise_mse"),
        Claim("colbert_margin_mse", "better", "colbert_labels"),
    ),
    here="2 MiniLM layers for DistilBERT; one learning rate for all rows; ColBERT compares by cosine, the paper's by "
    "dot product; TK is left out, as its word vectors cannot be had here.",
)

_TEACHERS = Experiment(
    title="One teacher against an ensemble",
    source="Hofstaetter et al. 2020, Table 3 (MS MARCO DEV; T1 is BERT-Base_CAT, T2 the mean of three teachers)",
    columns=("nDCG@10", "RR@10"),
    rows={
        "labels": Row("dual encoder, no teacher", (".373", ".316")),
        "single": Row("dual encoder, T1", (".388", ".330")),
        STUDENT: Row("dual encoder, T2", (".391", ".332")),
        "colbert_labels": Row("ColBERT, no teacher", (".417", ".357")),
        "colbert_single": Row("ColBERT, T1", (".431", ".370")),
        "colbert_ensemble": Row("ColBERT, T2", (".436", ".375")),
    },
    claims=(
        Claim("single", "better", "labels"),
        Claim(STUDENT, "better", "single"),
        Claim("colbert_single", "better", "colbert_labels"),
        Claim("colbert_ensemble", "better", "colbert_single"),
    ),
    here="T1 has 6 MiniLM layers; T2 adds one of 6 and one of 4, with other seeds, where the paper adds larger ones.",
)

_DUAL_LOSSES = Experiment(
    title="Losses for a dual encoder",
    source="Menon et al. 2022, Table 1 (MS MARCO dev, re-ranking)",
    columns=("RR@10", "nDCG@10"),
    rows={
        "one_hot": Row("labels, one-hot", (".310", ".360")),
        "mse": Row("MSE", (".289", ".343")),
        "margin_mse": Row("Margin-MSE", (".334", ".392")),
        "rankdistil_b": Row("RankDistil-B", (".249", ".301")),
        "m3se": Row("M3SE", (".349", ".406")),
        STUDENT: Row("softmax cross-entropy", (".346", ".405")),
    },
    claims=(
        Claim(STUDENT, "better", "one_hot"),
        Claim("m3se", "better", "one_hot"),
        Claim("margin_mse", "better", "one_hot"),
        Claim("mse", "no better", "one_hot"),
        Claim("rankdistil_b", "no better", "one_hot"),
        Claim(STUDENT, "better", "margin_mse"),
        Claim("m3se", "better", "margin_mse"),
    ),
    here="8 documents a query for 20; the paper's one-hot student learns from triples, here every row has the same "
    "documents; gamma0 = 0 and temperature 1 are assumed, as the paper gives neither.",
)

_DOCUMENTS = Experiment(
    title="Number of documents a student learns from",
    source="Menon et al. 2022, Table 6 (MS MARCO dev; 2, 10, 20 and 100 documents)",
    columns=("documents", "RR@10", "nDCG@10"),
    rows={
        "softmax_ce_2": Row("softmax cross-entropy, 2", ("2", ".327", ".386")),
        "softmax_ce_4": Row("softmax cross-entropy, 4", ("10", ".333", ".391")),
        "softmax_ce_8": Row("softmax cross-entropy, 8", ("20", ".338", ".396")),
        STUDENT: Row("softmax cross-entropy, 16", ("100", ".334", ".393")),
        "m3se_4": Row("M3SE, 4", ("10", ".326", ".382")),
        "m3se_8": Row("M3SE, 8", ("20", ".349", ".406")),
    },
    claims=(
        Claim("softmax_ce_8", "better", "softmax_ce_2"),
        Claim("softmax_ce_4", "better", "softmax_ce_2"),
        Claim(STUDENT, "no better", "softmax_ce_8"),
        Claim("m3se_8", "better", "m3se_4"),
    ),
    here="2, 4, 8 and 16 documents of 20 candidates; the labelled positive is always among them.",
    picture=Picture(
        "documents per query",
        {
            "softmax cross-entropy": (
                (2, "softmax_ce_2"),
                (4, "softmax_ce_4"),
                (8, "softmax_ce_8"),
                (16, STUDENT),
            ),
            "M3SE": ((4, "m3se_4"), (8, "m3se_8")),
        },
        log=True,
    ),
)

_SIZES = Experiment(
    title="Cross-attention against dual encoder by size",
    source="Menon et al. 2022, Fig. 1 and Table 2 (MS MARCO dev; small BERTs 6-128, 6-256 and 6-768)",
    columns=("size", "RR@10"),
    rows={
        "cross_1": Row("cross-attention, 1 layer", ("6-128", ".334")),
        "cross_2": Row("cross-attention, 2 layers", ("6-256", ".350")),
        STUDENT: Row("cross-attention, 3 layers", ("6-768", ".364")),
        "dual_1": Row("dual encoder, 1 layer", ("6-128", ".249")),
        "dual_2": Row("dual encoder, 2 layers", ("6-256", ".282")),
        "dual_3": Row("dual encoder, 3 layers", ("6-768", ".310")),
    },
    claims=(
        Claim("cross_1", "better", "dual_1"),
        Claim("cross_2", "better", "dual_2"),
        Claim(STUDENT, "better", "dual_3"),
        Claim(STUDENT, "better", "cross_1"),
        Claim("dual_3", "better", "dual_1"),
    ),
    here="Size is the number of layers of MiniLM, whose width is fixed, where the paper's is the width. The first "
    "layers come from a MiniLM that was trained as a sentence encoder, which favours the dual encoder. The paper's gap "
    "on training queries is not measured.",
    picture=Picture(
        "layers",
        {
            "cross-attention": ((1, "cross_1"), (2, "cross_2"), (3, STUDENT)),
            "dual encoder": ((1, "dual_1"), (2, "dual_2"), (3, "dual_3")),
        },
    ),
)

_OBJECTIVES = Experiment(
    title="Contrastive learning against distillation by size of the student",
    source="Xu et al. 2025 (MS MARCO, TREC DL, BEIR; 0.5B to 7B). The abstract is at hand, its tables are not",
    columns=(),
    rows={
        "cl_1": Row("contrastive, 1 layer"),
        "kd_1": Row("distilled (KL, T = 2), 1 layer"),
        "cl_2": Row("contrastive, 2 layers"),
        "kd_2": Row("distilled (KL, T = 2), 2 layers"),
        "cl_3": Row("contrastive, 3 layers"),
        STUDENT: Row("distilled (KL, T = 2), 3 layers"),
    },
    claims=(
        Claim("kd_1", "better", "cl_1"),
        Claim("kd_2", "better", "cl_2"),
        Claim(STUDENT, "better", "cl_3"),
    ),
    here="Cross-encoders of 1 to 3 MiniLM layers for language models, a late-interaction teacher of 6 for one of 7B.",
    picture=Picture(
        "layers",
        {
            "contrastive": ((1, "cl_1"), (2, "cl_2"), (3, "cl_3")),
            "distilled": ((1, "kd_1"), (2, "kd_2"), (3, STUDENT)),
        },
    ),
)

_SAME_CAPACITY = Experiment(
    title="A teacher no larger than its student",
    source="Xu et al. 2025 (7B teaches 7B). The abstract is at hand, its tables are not",
    columns=(),
    rows={
        "cl": Row("contrastive, 2 layers"),
        STUDENT: Row("distilled from 2 layers"),
        "large_teacher": Row("distilled from 6 layers"),
    },
    claims=(
        Claim(STUDENT, "no better", "cl"),
        Claim("large_teacher", "better", "cl"),
    ),
    here="Student and same teacher are cross-encoders of 2 MiniLM layers and saw the same 1,024 queries; the large "
    "teacher is late interaction of 6 layers.",
)

_STAGES = Experiment(
    title="Contrastive learning, distillation, and one after the other",
    source="Pezzuti et al. 2025 (ELECTRA over ColBERTv2; nDCG@10 on TREC DL 2019 and MS MARCO dev/small, from the "
    "authors' notebook)",
    columns=("DL 2019", "dev/small"),
    rows={
        STUDENT: Row("C", (".7537", ".4844")),
        "d": Row("D", (".6916", ".3421")),
        "c_d_low": Row("C then D, rate / 100", (".7550", ".4841")),
        "c_d_high": Row("C then D, same rate"),
        "d_c_low": Row("D then C, rate / 100"),
        "d_c_high": Row("D then C, same rate", (".7632", ".4855")),
    },
    claims=(
        Claim(STUDENT, "better", "d"),
        Claim("c_d_low", "no better", STUDENT),
        Claim("c_d_high", "no better", STUDENT),
        Claim("d_c_low", "no better", STUDENT),
        Claim("d_c_high", "no better", STUDENT),
    ),
    here="D learns the order of a late-interaction MiniLM that was itself trained on these labels, where the paper's "
    "is that of RankGPT-3.5 on 20 documents of another first stage; C and D see the same queries and documents, and "
    "the second stage has 24 steps, the first 64. The paper does not say which second-stage rate its rows have.",
    picture=Picture(
        "learning rate of the second stage",
        {
            "C then D": ((5.0e-6, "c_d_low"), (5.0e-4, "c_d_high")),
            "D then C": ((5.0e-6, "d_c_low"), (5.0e-4, "d_c_high")),
            "C alone": ((5.0e-6, STUDENT), (5.0e-4, STUDENT)),
            "D alone": ((5.0e-6, "d"), (5.0e-4, "d")),
        },
        log=True,
    ),
)

EXPERIMENTS: dict[str, Experiment] = {
    "hofstatter-losses-mini": _LOSSES,
    "hofstatter-teachers-mini": _TEACHERS,
    "menon-losses-mini": _DUAL_LOSSES,
    "menon-documents-mini": _DOCUMENTS,
    "menon-sizes-mini": _SIZES,
    "xu-objectives-mini": _OBJECTIVES,
    "xu-same-capacity-mini": _SAME_CAPACITY,
    "pezzuti-stages-mini": _STAGES,
}
