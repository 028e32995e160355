"""A GPT-2 of Hugging Face, trained by DFA with its own Trainer: python examples/hugging_face.py

Needs `pip install "dfa-bench[huggingface]"`. The model is made from a configuration: nothing is downloaded.
"""

import sys
import tempfile
from pydoc_data.topics import topics

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from dfa_bench.feedback import DirectFeedback, FeedbackPath, TrainerCallback

CONTEXT = 32
text = torch.tensor(list("".join(topics.values())[:200_000].encode("ascii", "replace")))
windows = [
    {"input_ids": window, "labels": window} for window in text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
]


def main(steps: int) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=128, n_positions=CONTEXT, n_embd=64, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    example = {"input_ids": torch.stack([window["input_ids"] for window in windows[:2]])}
    path = FeedbackPath.auto(model, example)
    print(path)
    attached = DirectFeedback(seed=0).attach(model, path, example=example)
    print(attached.check(lambda: model(**example, labels=example["input_ids"]).loss.backward()))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            learning_rate=3e-3,
            lr_scheduler_type="constant",
            per_device_train_batch_size=16,
            logging_steps=max(1, steps // 4),
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=windows, callbacks=[TrainerCallback(attached)]).train()
    attached.remove()


if __name__ == "__main__":
    main(steps=int(sys.argv[1]) if len(sys.argv) > 1 else 200)
