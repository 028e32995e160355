"""Hugging Face models from configuration, PEFT, Trainer and Accelerate; each skipped where its package is not here."""

import copy
import warnings

import pytest
import torch

from dfa_bench.feedback import (
    AlreadyAttached,
    DirectFeedback,
    FeedbackPath,
    KolenPollack,
    ModelChanged,
    NotATensor,
    PassesDiffer,
    TrainerCallback,
    attachment_of,
    of_sample,
)
from tests.feedback.models import assert_same, feedback, gradients

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (pip install dfa-bench[huggingface])"
)

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.randint(50, (2, 7), generator=torch.Generator().manual_seed(0))
PIXELS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def gpt2():
    torch.manual_seed(0)
    options = {"bos_token_id": 0, "eos_token_id": 0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, **options)
    )


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, num_key_value_heads=2))


def bert():
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=3, **still))


def vit():
    size = {key: value for key, value in SMALL.items() if key != "vocab_size"}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**size, image_size=8, patch_size=4, num_labels=3)
    )


def mamba():
    options = {"state_size": 4, "residual_in_fp32": False, "tie_word_embeddings": False}
    return transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, **options)
    )


def t5():
    config = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=50, decoder_start_token_id=0, tie_word_embeddings=False, **config)
    )


LOGITS = {
    "GPT-2": (gpt2, FeedbackPath(["transformer.h.*"]), {"input_ids": IDS}),
    "Llama": (llama, FeedbackPath(["model.layers.*"]), {"input_ids": IDS}),
    "BERT": (bert, FeedbackPath(["bert.encoder.layer.*"], "classifier", rows=of_sample), {"input_ids": IDS}),
    "ViT": (vit, FeedbackPath(["vit.layers.*"], "classifier", rows=of_sample), {"pixel_values": PIXELS}),
    "Mamba": (mamba, FeedbackPath(["backbone.layers.*"]), {"input_ids": IDS}),
    "T5": (
        t5,
        FeedbackPath(["decoder.block.*"], "lm_head", first_of_tuple=True),
        {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]},
    ),
}


def by_blocks(model, names, inputs, matrix, axes, rows):
    """Reference on a bare model: hooks that detach, then one backward with the projected error at each."""
    points = []

    def cut(module, args, output):
        first = output[0] if isinstance(output, tuple) else output
        points.append(first)
        if not isinstance(output, tuple):
            return first.detach()
        return tuple(each.detach() if isinstance(each, torch.Tensor) else each for each in output)

    handles = [model.get_submodule(name).register_forward_hook(cut) for name in names]
    logits = model(**inputs).logits
    for handle in handles:
        handle.remove()
    (error,) = torch.autograd.grad(logits.square().sum(), logits, retain_graph=True)
    projected = [(error @ matrix)[rows(point)] if rows else feedback(error, matrix, point, axes) for point in points]
    torch.autograd.backward([logits.square().sum(), *points], [None, *projected])
    return gradients(model)


@pytest.mark.parametrize("streaming", [False, True], ids=["", "streaming"])
@pytest.mark.parametrize("name", LOGITS)
def test_gradients_are_those_of_a_backward_per_block(name, streaming):
    make, path, inputs = LOGITS[name]
    torch.manual_seed(0)
    model = make().double().train()
    inputs = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
    bare = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # T5's encoder learns by BP, and its output passes no source
        attached = DirectFeedback(1, streaming=streaming).attach(model, path, example=inputs)
    model(**inputs).logits.square().sum().backward()
    expected = by_blocks(bare, attached.point_names, inputs, attached.matrices[0], 1 if path.rows else 2, path.rows)
    rounding = 1e-6 if streaming and name == "T5" else 1e-10  # its norms are float32, and blocks share its encoder
    assert_same(gradients(model), expected, rounding)
    assert len(attached.point_names) == 2


@pytest.mark.parametrize("given", ["decoder_input_ids", "labels"])
def test_an_encoder_as_long_as_its_decoder_is_told_apart(given):
    torch.manual_seed(0)
    model, path = t5(), FeedbackPath(["encoder.block.*", "decoder.block.*"], "lm_head", first_of_tuple=True)
    with pytest.warns(UserWarning, match=r"The rows of 'encoder.block.0', 'encoder.block.1' seem to belong to a"):
        DirectFeedback(1).attach(model, path, example={"input_ids": IDS, given: IDS.flip(0)})


@pytest.mark.parametrize("name", LOGITS)
def test_points_are_proposed_and_proved_active(name):
    make, _, inputs = LOGITS[name]
    torch.manual_seed(0)
    model = make()
    path = FeedbackPath.auto(model, inputs)
    expected = {
        "GPT-2": (["transformer.h.*"], "lm_head", True),
        "Llama": (["model.layers.*"], "lm_head", True),
        "BERT": (["bert.encoder.layer.*"], "classifier", False),
        "ViT": (["vit.layers.*"], "classifier", True),
        "Mamba": (["backbone.layers.*"], "lm_head", True),
        "T5": (["decoder.block.*"], "lm_head", True),  # its encoder has other rows than its error
    }[name]
    assert (path.points, path.error_at, path.normalised) == expected
    assert (path.rows is of_sample) == (name in ("BERT", "ViT"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # T5's encoder learns by BP, and its output passes no source
        attached = DirectFeedback().attach(model, path, example=inputs)
        found = attached.check(lambda: model(**inputs).logits.square().sum().backward())
    found.assert_active()
    assert len(found.by_feedback) > 10


def test_a_loss_made_inside_needs_the_head_as_the_error_source():
    model, inputs = gpt2(), {"input_ids": IDS, "labels": IDS}
    with pytest.raises(NotATensor, match="'lm_head'"):
        DirectFeedback().attach(model, FeedbackPath(["transformer.h.*"]), example=inputs)
    attached = DirectFeedback().attach(model, FeedbackPath(["transformer.h.*"], "lm_head"), example=inputs)
    model(**inputs).loss.backward()
    assert attached.matrices[0].shape == (50, 16)
    assert model.transformer.h[0].mlp.c_fc.weight.grad.abs().sum() > 0


def test_adapters_before_and_after_attaching():
    peft = pytest.importorskip("peft")
    path = FeedbackPath(["transformer.h.*"], error_at="lm_head")
    config = peft.LoraConfig(r=2, target_modules=["c_proj"], fan_in_fan_out=True)
    adapted = peft.get_peft_model(gpt2(), config)
    attached = DirectFeedback().attach(adapted, path, example={"input_ids": IDS})
    adapted(input_ids=IDS).logits.sum().backward()
    learns = {name for name, sources in attached.describe().learns_from.items() if sources}
    assert learns == {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert learns
    assert all("lora" in name for name in learns)

    model = gpt2()
    on_projections = FeedbackPath(["transformer.h.*.mlp.c_proj"], error_at="lm_head")
    DirectFeedback().attach(model, on_projections, example={"input_ids": IDS})
    late = peft.get_peft_model(model, config)
    with pytest.raises(ModelChanged, match=r"'transformer.h.0.mlp.c_proj' was replaced.*LoRA"):
        late(input_ids=IDS)


def dataset():
    return [{"input_ids": row, "labels": row} for row in torch.randint(50, (8, 7))]


@pytest.mark.parametrize("rule", [DirectFeedback, KolenPollack])
def test_a_trainer_that_is_resumed_goes_on_with_the_same_feedback(rule, tmp_path):
    pytest.importorskip("accelerate")
    path, example = FeedbackPath(["transformer.h.*"], error_at="lm_head"), {"input_ids": IDS}

    def trainer(seed, steps):
        model = gpt2()
        attached = rule(seed=seed).attach(model, path, example=example)
        torch.manual_seed(1)
        options = transformers.TrainingArguments(
            tmp_path,
            max_steps=steps,
            save_steps=2,
            per_device_train_batch_size=4,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        found = transformers.Trainer(model, options, train_dataset=dataset(), callbacks=[TrainerCallback(attached)])
        return found, attached

    first, attached = trainer(seed=1, steps=2)
    first.train()
    resumed, other = trainer(seed=2, steps=4)
    assert not torch.equal(other.matrices[0], attached.matrices[0])
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    saved = torch.load(tmp_path / "checkpoint-2" / "feedback.pt", weights_only=True)
    assert all(
        torch.equal(saved[key], value)
        for key, value in attached.state_dict().items()
        if isinstance(value, torch.Tensor)
    )
    if rule is DirectFeedback:
        assert torch.equal(other.matrices[0], attached.matrices[0])

    (tmp_path / "checkpoint-2" / "feedback.pt").unlink()
    without, _ = trainer(seed=2, steps=3)
    with pytest.warns(UserWarning, match=r"feedback.pt is missing"):
        without.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize("to_trainer", [False, True])
def test_a_trainer_logs_alignment_and_norms_and_ends_without_hooks(to_trainer, tmp_path):
    model = gpt2()
    attached = DirectFeedback(1).attach(model, FeedbackPath(["transformer.h.*"], "lm_head"), {"input_ids": IDS})
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "save_strategy": "no"}
    arguments = transformers.TrainingArguments(
        tmp_path, max_steps=3, report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no", **options
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=dataset())
    log = trainer.log if to_trainer else None
    trainer.add_callback(TrainerCallback(attached, every=2, log=log, remove_at_end=True))
    trainer.train()
    measured = [entry for entry in trainer.state.log_history if "alignment/lm_head" in entry]
    assert [entry["step"] for entry in measured] == [0, 2]
    for entry in measured:
        assert entry["weight_alignment/transformer.ln_f.weight"] == pytest.approx(1, abs=1e-5)
        assert entry["weight_alignment/transformer.h.0.mlp.c_fc.weight"] < 0.9
        assert entry["gradient_norm/transformer.h.0.mlp.c_fc.weight"] > 0
    assert attachment_of(model) is None


def test_a_trainer_that_computes_the_loss_itself_cannot_be_measured(tmp_path):
    model = gpt2()
    attached = DirectFeedback(1).attach(model, FeedbackPath(["transformer.h.*"], "lm_head"), {"input_ids": IDS})
    options = {"label_smoothing_factor": 0.1, "save_strategy": "no"}
    arguments = transformers.TrainingArguments(
        tmp_path, max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True, **options
    )
    callbacks = [TrainerCallback(attached, every=1)]
    with pytest.raises(PassesDiffer, match="returns no loss.*measure in your compute_loss"):
        transformers.Trainer(model, arguments, train_dataset=dataset(), callbacks=callbacks).train()


def test_accelerate_keeps_the_matrices_with_its_checkpoints(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    path = FeedbackPath(["transformer.h.*"], error_at="lm_head")
    accelerator = accelerate.Accelerator(cpu=True)
    attached = DirectFeedback(1).attach(gpt2(), path, example={"input_ids": IDS})
    model = accelerator.prepare(attached.model)
    accelerator.register_for_checkpointing(attached)
    before = attached.matrices[0].clone()
    accelerator.save_state(str(tmp_path))
    attached.routes[0].matrix.zero_()
    accelerator.load_state(str(tmp_path))
    assert torch.equal(attached.matrices[0], before)
    assert attachment_of(model) is attached
    with pytest.raises(AlreadyAttached):
        DirectFeedback().attach(model, path)
