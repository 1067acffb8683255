"""The peers' own trainers on groups given as texts: when each of their steps ended.

Run in a process of its own, by the interpreter of the peer's environment, so this file imports nothing of stillhouse.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from importlib import metadata
from typing import Any

SETTINGS = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True}


def train(kind: str, folder: str, columns: dict[str, Any], options: dict[str, Any]) -> tuple[Any, list[float]]:
    """The trained model and when each step ended, in seconds since the epoch.

    `kind`: cross_encoder, dual_encoder, colbert or pylate. `options`: batch, steps, bfloat16, temperature, seed; and
    for what differs from the library's defaults: freeze, dropout, learning_rate.
    """
    import torch
    from transformers import TrainerCallback

    torch.manual_seed(options["seed"])
    model, trainer_class, arguments_class, loss, extra = _parts(kind, folder, options)
    if options.get("freeze"):
        for name, parameter in model.named_parameters():
            if "word_embeddings" in name:
                parameter.requires_grad_(False)
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())

    chosen = {"learning_rate": options["learning_rate"]} if "learning_rate" in options else {}
    with tempfile.TemporaryDirectory() as place:
        arguments = arguments_class(
            output_dir=place,
            per_device_train_batch_size=options["batch"],
            max_steps=options["steps"],
            bf16=options["bfloat16"],
            seed=options["seed"],
            **SETTINGS,
            **chosen,
        )
        trainer = trainer_class(
            model=model, args=arguments, train_dataset=_dataset(columns, kind), loss=loss, callbacks=[Clock()], **extra
        )
        trainer.train()
    return model, ends


def _dataset(columns: dict[str, Any], kind: str) -> Any:
    from datasets import Dataset

    if kind == "pylate":
        # Its loss reads one column of documents: a list for each query.
        texts = [value for name, value in columns.items() if name not in ("query", "label")]
        documents = [list(row) for row in zip(*texts, strict=True)]
        columns = {"query": columns["query"], "documents": documents, "scores": columns["label"]}
    return Dataset.from_dict(columns)


def _parts(kind: str, folder: str, options: dict[str, Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """Model, trainer, its arguments, loss, further arguments of the trainer."""
    if kind == "pylate":
        from pylate import losses, models, utils
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

        model = models.ColBERT(folder, device="cpu")
        extra = {"data_collator": utils.ColBERTCollator(model.tokenize)}
        loss = losses.Distillation(model)
        return model, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, loss, extra
    if kind == "cross_encoder":
        from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
        from sentence_transformers.cross_encoder.losses import MarginMSELoss

        more = {} if "dropout" not in options else {"config_kwargs": _dropout(options["dropout"])}
        cross = CrossEncoder(folder, num_labels=1, max_length=256, device="cpu", **more)
        return cross, CrossEncoderTrainer, CrossEncoderTrainingArguments, MarginMSELoss(cross), {}
    if kind == "dual_encoder":
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )
        from sentence_transformers.sentence_transformer.losses import MarginMSELoss as DualLoss

        dual = SentenceTransformer(folder, device="cpu")
        return dual, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, DualLoss(dual), {}
    from sentence_transformers import (
        MultiVectorEncoder,
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
    )
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss

    many = MultiVectorEncoder(folder, device="cpu")
    late = MultiVectorDistillKLDivLoss(many, temperature=options["temperature"])
    return many, MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments, late, {}


def _dropout(rate: float) -> dict[str, float]:
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


def main() -> None:
    """What the peer's process does: read the training as JSON, print when its steps ended and the versions."""
    import torch

    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    model, ends = train(asked["kind"], asked["folder"], asked["columns"], asked["options"])
    if asked["save"]:
        model.save_pretrained(asked["save"])
    packages = ("sentence-transformers", "transformers", "torch", *(["pylate"] if asked["kind"] == "pylate" else []))
    print(json.dumps({"ends": ends, "versions": {name: metadata.version(name) for name in packages}}))


if __name__ == "__main__":
    main()
