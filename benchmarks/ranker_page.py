"""`docs/rankers.md`: `make docs` runs `python -m benchmarks.ranker_page docs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ranker_parity import DOC_TOKENS, Row, rows
from stillhouse.cli.reference import key_table
from stillhouse.rankers import RANKERS

PYLATE = Path(__file__).parent / "results" / "pylate_parity.json"
"""What PyLate measured in its own environment, since it pins older libraries; without the file there is no row."""

INTRODUCTION = """# The rankers

Written by `make docs`; change the code instead.

Every architecture has one face: `RANKERS[key].from_backbone(name_or_path, **options)` makes a fresh ranker on
pretrained weights, `load_ranker(path)` opens a saved one, `ranker.score(queries, docs)` gives float32 `[Q, K]`, and
`ranker.truncation` says how many texts of the last call were longer than their caps.
"""

TABLE = f"""
## Parity and cost

Each architecture against an independent implementation of the same scores, on CPU in float32: 3 queries with 3
documents each, from an empty one to 140 tokens, none above its cap. The difference is the largest one over all pairs
and the options named; a test measures it again and fails above 1e-5 of the largest score (or of 1). MiniLM is
all-MiniLM-L6-v2 of the extra `demo` (6 layers, D = 384), with heads drawn from a seed. Storage is that of one
document of L = {DOC_TOKENS} tokens as `encode_docs` gives it, in float32; the mask and padding come on top.

| ranker | parity reference | weights | max difference | largest score | parameters | documents kept | bytes of one |
|---|---|---|---|---|---|---|---|
"""

FACTS = """
## What holds for all

- **One by one.** A pair scores the same alone, in any batch, beside any lengths and in any order: within 2e-05 in
  float32, within 0.03 of the largest score in bfloat16 (heads stay float32, so scores do not tie at 8 bits).
- **Caps.** Query and document have their own (`query_max_length` 64, `doc_max_length` 256, without special tokens);
  special tokens, markers and prompt are never cut, and a text is never cut to make room for the other.
- **Odd texts.** Empty texts, a document of a megabyte, emoji, right-to-left text, NUL and lone surrogates have finite
  scores; a list of another length or a bare string is refused.
- **Processes.** Two ranks under FSDP2 have the loss (1e-5), the gradients (1e-4 of each tensor's largest) and the
  scores (1e-4) of one process. A checkpoint written by two goes on in one, and the reverse.
- **Saved folders** hold safetensors, a tokenizer, `ranker.json` and a model card. A missing weight or head is an error.
- **Sizes.** `num_layers` keeps the first layers of a backbone, `layers: [0, 2, 5]` those chosen; the backbone may be
  the folder of a trained teacher. `small-bert-{2,4,6,8,10,12}-{128,256,512,768}` are the small BERTs
  (arXiv:1908.08962) from the hub.
- **Speed and memory.** `gradient_checkpointing`; `compile: true` compiles each block; `attention` is `sdpa` on a GPU
  and `eager` on a CPU unless chosen, where BERT-like encoders run layers written out for it; `dtype: auto` takes
  bfloat16 where the hardware has it.
"""

SECTIONS = {
    "cross_encoder": """BERT_CAT, the pointwise cross-encoder (Nogueira and Cho, arXiv:1901.04085):

    s = w . pool(T([CLS] q [SEP] d [SEP])) + b

Any Hugging Face encoder: BERT, DistilBERT, ELECTRA, RoBERTa, ALBERT, MiniLM and ModernBERT are compared with
sentence-transformers in the tests. `cls` and `mean` put a fresh layer on the bare encoder, `pooler` is the backbone's
own classification head, as published cross-encoders have it.

For: teachers, and students where every pair may cost a whole pass.""",
    "dual_encoder": """BERT_DOT (Karpukhin et al., arXiv:2004.04906), with the head of Menon et al. (In defense of
dual-encoders, App. B):

    s = scale * <head(pool(T(q))), head(pool(T(d)))>

`cosine` divides each vector by its length first; its scores lie in [-1, 1] and cannot match softened teacher scores
without a `score_scale`. With as many dimensions as the score matrix has rank it can fit any matrix, with fewer it
cannot (their Proposition 1; a test fits both).

For: the smallest store and the fastest ranking: one vector per document.""",
    "colbert": """Late interaction (Khattab and Zaharia, arXiv:2004.12832):

    s = sum over query tokens i of max over document tokens j of <q_i, d_j>

The defaults are those of Hofstaetter et al. (arXiv:2010.02666): dot products, no compression, 8 MASK tokens behind
every query whatever the padding. The original is `similarity: cosine, projection_dim: 128, mask_mode: pad_to_length`
with markers and `skip_punctuation: true`; Menon et al. take the mean over query tokens (`aggregation: mean`).

For: nearly a cross-encoder's quality from kept documents, at one vector per token.""",
    "prettr": """PreTTR (MacAvaney et al., arXiv:2004.14255): the first b layers read query and document apart, the
others together.

    s = w . pool(T_rest([T_first(q); T_first(d)])) + b

`num_separate_layers` is b; 0 is the cross-encoder. With b > 0 the document's positions start behind the longest query
allowed, so that its states do not depend on the query and can be kept.

For: a cross-encoder whose documents are half computed before the query comes.""",
    "tk": """Transformer-Kernel (Hofstaetter et al., arXiv:2002.01854):

    x_i = alpha e_i + (1 - alpha) TF(e)_i,   s = sum over k of w_k sum over i of log sum over j of
    exp(-(cos(q_i, d_j) - mu_k)^2 / (2 sigma^2))

with 11 kernels (mu = 1, 0.9, 0.7, ..., -0.9). Word embeddings come from a backbone, or are learnt (`embedding_dim`).

For: CPU budgets: two thin layers, and vectors that can be kept.""",
    "causal_lm": """A causal language model as pointwise re-ranker (Ma et al., arXiv:2310.08319; the 0.5B to 7B students
of Xu et al., arXiv:2507.08336):

    s = w . h_last   or   s = logit(yes) - logit(no)   at the last token of the prompt

Rows are padded on the right and the last real token is read, whatever side the tokenizer would pad; soft caps and
biases of the output layer count. The table's weights are random: a parity of arithmetic, not of quality.

For: large teachers and students.""",
    "recurrent": """The same on a state-space or linear-recurrent model (Xu, arXiv:2403.18276): Mamba
(arXiv:2312.00752), Mamba-2 (arXiv:2405.21060) and RecurrentGemma (arXiv:2404.07839) through transformers, on its pure
torch path without custom kernels; the tests run all three.

For: comparing backbones at equal size; memory does not grow with the square of the length.""",
}


def page(measured: Sequence[Row], pylate: Path = PYLATE) -> str:
    """The whole page."""
    lines = [_line(row) for row in measured]
    if pylate.is_file():
        place = [row.key for row in measured].index("colbert") + 1
        lines.insert(place, _pylate_line(json.loads(pylate.read_text())))
    parts = [INTRODUCTION, TABLE + "\n".join(lines) + "\n", FACTS]
    schemas = {key: ranker.spec_class.model_json_schema() for key, ranker in RANKERS.items()}
    shared = set.intersection(*(set(schema["properties"]) for schema in schemas.values())) - {"ranker"}
    for key, schema in schemas.items():
        own = [name for name in schema["properties"] if name not in shared | {"ranker"}]
        parts.append(f"\n## {key}\n\n{SECTIONS[key]}\n\n{key_table(schema, own)}")
    first = schemas["tk"]
    common = [name for name in first["properties"] if name in shared]
    parts.append(f"\n## Options of every ranker\n\n{key_table(first, common)}")
    return "".join(parts)


def _line(row: Row) -> str:
    kept = f"{row.storage} = {row.bytes:,}" if row.bytes else "-"
    return (
        f"| `{row.key}` | {row.reference} | {row.weights} | {row.difference:.1e} | {row.largest:.1e} "
        f"| {row.parameters:,} | {'yes' if row.bytes else 'no'} | {kept} |"
    )


def _pylate_line(found: dict[str, Any]) -> str:
    peer = found["peer"]
    return (
        f"| `colbert`, exported | PyLate {peer['pylate']} with sentence-transformers {peer['sentence-transformers']}, "
        f"in its own environment: {len(found['cases'])} combinations of switches "
        f"| MiniLM, projected to {found['projection_dim']} | {found['max_difference']:.1e} | {found['max_score']:.1e} "
        "| as above and the projection | yes | 4 D (L + 2) |"
    )


if __name__ == "__main__":
    Path(sys.argv[1], "rankers.md").write_text(page(rows()), encoding="utf-8")
