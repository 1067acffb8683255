"""Rankers for other libraries: what a target cannot express is named and refused."""

from __future__ import annotations

import json
import shutil
import string
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

from stillhouse.artifacts import write_json
from stillhouse.errors import BackboneError
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.batching import Tokens
from stillhouse.rankers.card import CARD, with_lines
from stillhouse.rankers.colbert import Colbert
from stillhouse.rankers.cross_encoder import CrossEncoder
from stillhouse.rankers.separable import SeparableRanker


def export(ranker: Ranker, path: str | Path, target: str, card: str = "") -> None:
    """Write `ranker` as a folder that `target` opens with equal scores.

    Raises BackboneError when the target is unknown, its extra is not installed, or it cannot express the ranker.
    """
    check_target(target)
    TARGETS[target](ranker, Path(path), card)


def check_target(target: str) -> None:
    """Raise BackboneError unless rankers can be exported to `target`."""
    if target not in TARGETS:
        raise BackboneError(f"export target {target!r} is not one of {', '.join(TARGETS)}")


def _sentence_transformers(ranker: Ranker, path: Path, card: str) -> None:
    """CrossEncoder, SentenceTransformer or MultiVectorEncoder, version 6."""
    refuse("sentence-transformers", ranker, ranker.unexpressed())
    ranker.save_pretrained(path, card)


def _pylate(ranker: Ranker, path: Path, card: str) -> None:
    """The layout of PyLate 1.x: Transformer, Dense, and the rest as settings of the whole model."""
    if not isinstance(ranker, Colbert):
        raise BackboneError(f"pylate holds late-interaction rankers, not {ranker.key}")
    spec = ranker.spec
    missing = ranker.unexpressed()
    if spec.similarity != "cosine":
        missing.append(f"similarity: {spec.similarity}")
    if spec.aggregation != "sum":
        missing.append(f"aggregation: {spec.aggregation}")
    if spec.projection_dim is None:
        missing.append("projection_dim: null")
    refuse("pylate", ranker, missing)
    ranker.save_pretrained(path, card)
    special = ranker.template.num_special
    settings = {
        "model_type": "ColBERT",
        "similarity_fn_name": "MaxSim",
        "query_prefix": spec.query_marker or "",
        "document_prefix": spec.doc_marker or "",
        "query_length": spec.query_max_length + special + (spec.query_marker is not None),
        "document_length": spec.doc_max_length + special + (spec.doc_marker is not None),
        "attend_to_expansion_tokens": spec.attend_to_masks,
        "do_query_expansion": spec.mask_mode == "pad_to_length",
        "skiplist_words": list(string.punctuation) if spec.skip_punctuation else [],
    }
    write_json(path / "config_sentence_transformers.json", settings)
    write_json(path / "sentence_bert_config.json", {"max_seq_length": settings["document_length"]})
    modules = json.loads((path / "modules.json").read_text())[:2]
    modules[1]["type"] = "pylate.models.Dense.Dense"
    dense = path / modules[1]["path"] / "config.json"
    config = json.loads(dense.read_text())
    # PyLate's layer reads and writes token embeddings without being told, and takes no other key than these.
    kept = ("in_features", "out_features", "bias", "activation_function")
    write_json(dense, {name: config[name] for name in kept} | {"use_residual": False})
    write_json(path / "modules.json", modules)
    _add_lines(path, "In PyLate 1.x, with equal scores:", _PYLATE_LINES)


def _onnx(ranker: Ranker, path: Path, card: str) -> None:
    """`model.onnx` beside the saved folder: ids, mask and segments in, a score or one vector per row out."""
    if not isinstance(ranker, CrossEncoder | SeparableRanker) or isinstance(ranker, Colbert) or ranker.key == "tk":
        raise BackboneError(f"onnx holds cross-encoders and dual encoders, not {ranker.key}")
    refuse("onnx", ranker, [] if isinstance(ranker, CrossEncoder) else ranker.unexpressed())
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise BackboneError("export to onnx needs the extra: pip install 'stillhouse[onnx]'")
    ranker.save_pretrained(path, card)
    # Three tensors apart: of one object given twice, torch.export makes one input.
    ids, mask, types = (torch.ones(2, 8, dtype=torch.long) for _ in range(3))
    places = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=ranker.max_positions)}
    training = ranker.training
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                _Rows(ranker).eval(),
                (ids, mask, types),
                path / "model.onnx",
                input_names=["input_ids", "attention_mask", "token_type_ids"],
                output_names=["scores" if isinstance(ranker, CrossEncoder) else "sentence_embedding"],
                dynamic_shapes=(places, places, places),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # of the tracer, the decompositions, the translation: each has its own
        shutil.rmtree(path)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(f"onnx: torch cannot translate {ranker.spec.backbone}: {reason}") from error
    finally:
        ranker.train(training)
    _add_lines(path, "In ONNX Runtime, with equal scores:", _onnx_lines(ranker))


def _add_lines(path: Path, sentence: str, code: str) -> None:
    card = path / CARD
    card.write_text(with_lines(card.read_text(), sentence, code))


_PYLATE_LINES = """from pylate import models, rank
model = models.ColBERT(".")
queries = model.encode(["a query"], is_query=True)
docs = model.encode([["a document", "another one"]], is_query=False)
ranked = rank.rerank([["first", "second"]], queries, docs)"""


def _onnx_lines(ranker: Ranker) -> str:
    """Ids from the folder's own tokenizer, as the ranker fills its rows."""
    joint = isinstance(ranker, CrossEncoder)
    texts = '[("a query", "a document"), ("a query", "another one")]' if joint else '["a document", "another one"]'
    return f"""import numpy, onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding(pad_id={ranker.pad_id}, pad_token={ranker.tokenizer.pad_token!r})
rows = tokenizer.encode_batch({texts})
inputs = {{
    "input_ids": numpy.array([row.ids for row in rows]),
    "attention_mask": numpy.array([row.attention_mask for row in rows]),
    "token_type_ids": numpy.array([row.type_ids for row in rows]),
}}
(outputs,) = onnxruntime.InferenceSession("model.onnx").run(None, inputs)"""


class _Rows(torch.nn.Module):
    """The ranker as a function of three tensors."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, ids_PL: torch.Tensor, mask_PL: torch.Tensor, types_PL: torch.Tensor) -> torch.Tensor:
        tokens = Tokens(ids_PL, mask_PL, types_PL)
        if isinstance(self.ranker, SeparableRanker):
            reps_PD = self.ranker._encode(tokens, "doc")
            assert isinstance(reps_PD, torch.Tensor)
            return reps_PD
        assert isinstance(self.ranker, CrossEncoder)
        return self.ranker.score_rows(tokens)


def refuse(target: str, ranker: Ranker, missing: list[str]) -> None:
    """Raise BackboneError that names the options `target` has no words for."""
    if missing:
        raise BackboneError(f"{target} cannot express {', '.join(missing)} of this {ranker.key}; it was not written")


TARGETS: dict[str, Callable[[Ranker, Path, str], None]] = {
    "sentence-transformers": _sentence_transformers,
    "pylate": _pylate,
    "onnx": _onnx,
}
