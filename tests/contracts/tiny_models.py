"""Tiny random models of many architectures, saved as Hugging Face does: made from a config and a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WORDS = (  # noqa: SIM905
    "river stone garden window letter engine winter market silver forest bridge candle doctor pencil island mirror "
    "planet rocket basket copper desert feather hammer jungle kettle ladder magnet needle orange pepper quartz ribbon"
).split()
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 160,
}
PIECES = [*WORDS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"), *",.!?;"]
WORDPIECE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "yes", "no", *PIECES]


def write_model(folder: Path, kind: str) -> Path:
    """`kind` is a model_type of transformers; the weights are drawn from one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _wordpiece(folder, kind) if kind in _WORDPIECE_KINDS else _byte_pair(kind)
    tokenizer.save_pretrained(folder)
    config = _config(kind, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        causal = kind in ("qwen2", "mamba", "mamba2", "recurrent_gemma")
        auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
        auto.from_config(config).save_pretrained(folder)
    return folder


_WORDPIECE_KINDS = {"bert": "BertTokenizer", "electra": "ElectraTokenizer", "distilbert": "DistilBertTokenizer"}


def _wordpiece(folder: Path, kind: str) -> Any:
    (folder / "vocab.txt").write_text("\n".join(WORDPIECE))
    return getattr(transformers, _WORDPIECE_KINDS[kind])(vocab=str(folder / "vocab.txt"), model_max_length=160)


def _byte_pair(kind: str) -> Any:
    """A byte-level BPE trained on WORDS; `roberta` closes pairs as <s> a </s></s> b </s>, others as BERT does."""
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(WORDS), "yes no"] * 5, trainer)
    tokenizer.add_tokens(["yes", "no"])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    inputs = ["input_ids", "attention_mask"]
    if kind == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    elif kind in ("albert", "modernbert"):
        pair = "<s> $A </s> $B:1 </s>:1"
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    if kind in ("roberta", "albert", "modernbert"):
        names |= {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    if kind == "albert":
        inputs.append("token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, model_max_length=160, **names
    )


def _config(kind: str, tokenizer: Any) -> Any:
    special = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind == "distilbert":
        return transformers.DistilBertConfig(
            dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=160, **special
        )
    sizes: dict[str, Any] = dict(SIZES)
    if kind == "roberta":
        sizes |= {"max_position_embeddings": 162, "type_vocab_size": 1}
    if kind == "albert":
        sizes |= {"embedding_size": 16}
    if kind == "electra":
        sizes |= {"embedding_size": 16}
    if kind == "modernbert":
        sizes |= {"cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}
    if kind == "qwen2":
        sizes |= {"num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 2}
    if kind in ("mamba", "mamba2"):
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8, "bos_token_id": 0, "eos_token_id": 2}
    if kind == "mamba2":
        sizes |= {"num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2, "chunk_size": 16}
    if kind == "recurrent_gemma":
        sizes |= {"lru_width": 32, "attention_window_size": 64, "num_key_value_heads": 1, "head_dim": 8}
    return transformers.AutoConfig.for_model(kind, **sizes, **special)
