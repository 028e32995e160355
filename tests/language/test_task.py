"""Language modelling: batches, perplexity, budgets, recipes, and runs that stop and go on."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import record_of
from dfa_bench.settings.resources import resource_folder
from dfa_bench.tasks.base import Shard, build_task
from dfa_bench.tasks.language.perplexity import exponential, perplexities
from dfa_bench.tasks.language.tokenizer import Tokens
from dfa_bench.tasks.language.windows import Chunks, Windows
from dfa_bench.training import trainer as loop
from dfa_bench.training.execute import execute, run_identity
from dfa_bench.training.optimizer import build_optimizer
from tests.language.conftest import LINES, write_text

WIKITEXT_103 = ("task=language", "dataset=wikitext-103", "model=transformer")
LANGUAGE = ("task=language", "dataset=wikitext-2", "model=transformer")


class Unigram(nn.Module):
    """Says the same of every position."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


def text(ids: list[int], begins: list[bool]) -> Tokens:
    return Tokens(np.array(ids, np.uint16), np.array(begins))


def test_perplexity_of_a_hand_computed_case():
    # Two streams, 0 1 2 and 1 1 0: predicted are 1, 2 and 1, 0, of which 1 (twice) and 0 begin words.
    found = perplexities(Unigram([0.5, 0.25, 0.25]), text([0, 1, 2, 1, 1, 0], [True, True, False]), 2, 8, None)
    loss = -math.log(0.25 * 0.25 * 0.25 * 0.5)
    assert found["perplexity"] == pytest.approx(math.exp(loss / 4))
    assert found["word_perplexity"] == pytest.approx(math.exp(loss / 3))


@given(st.lists(st.integers(0, 4), min_size=6, max_size=80), st.integers(1, 3), st.integers(1, 9))
def test_a_unigram_models_perplexity_is_its_cross_entropy_whatever_the_windows(ids, streams, context):
    probabilities = [0.1, 0.2, 0.3, 0.15, 0.25]
    length = len(ids) // streams
    predicted = [ids[n * length + t] for n in range(streams) for t in range(1, length)]
    found = perplexities(Unigram(probabilities), text(ids, [True] * 5), streams, context, None)
    expected = math.exp(-sum(math.log(probabilities[each]) for each in predicted) / len(predicted))
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert found["word_perplexity"] == pytest.approx(expected, rel=1e-5)


@given(tokens=st.integers(4, 200), streams=st.integers(1, 4), context=st.integers(1, 20))
def test_windows_predict_every_token_of_a_stream_but_the_first_once(tokens, streams, context):
    if tokens < 2 * streams:
        with pytest.raises(ValueError, match="too few"):
            Windows(np.arange(tokens), streams, context)
        return
    windows = Windows(np.arange(tokens), streams, context)
    batches = list(windows)
    assert len(batches) == len(windows)
    length = tokens // streams
    targets = torch.cat([batch.targets for batch in batches], dim=1)
    expected = torch.arange(length * streams).view(streams, length)[:, 1:]
    assert torch.equal(targets, expected)
    assert all(torch.equal(batch.inputs + 1, batch.targets) for batch in batches)
    assert all(batch.inputs.shape[1] <= context for batch in batches)


@given(chunks=st.integers(1, 30), size=st.integers(1, 5), context=st.integers(1, 8))
def test_chunks_come_in_the_given_order(chunks, size, context):
    order = np.random.default_rng(chunks).permutation(chunks)
    batches = list(Chunks(np.arange(chunks * context + 1), order, size, context))
    seen = [int(row[0]) // context for batch in batches for row in batch.inputs]
    assert seen == order[: chunks // size * size].tolist()


def test_a_budget_walks_on_through_the_text(smoke):
    task = build_task(smoke(*LANGUAGE, "trainer.max_tokens=1280", "trainer.max_epochs=2"))
    first, second = (list(task.batches(epoch, Shard())) for epoch in (1, 2))
    assert len(first) == len(second) == 1280 // (2 * 4 * 16)
    assert torch.equal(second[0].inputs[:, 0], first[-1].targets[:, -1])
    whole = build_task(smoke(*LANGUAGE, "trainer.max_tokens=null"))
    assert torch.equal(next(iter(whole.batches(2, Shard()))).inputs, next(iter(whole.batches(1, Shard()))).inputs)


@pytest.mark.parametrize("shuffle", ["false", "true"])
def test_two_processes_read_what_one_would(smoke, shuffle):
    task = build_task(smoke(*LANGUAGE, f"task.shuffle={shuffle}"))
    whole = list(task.batches(1, Shard()))
    halves = [list(task.batches(1, Shard(rank, 2))) for rank in (0, 1)]
    assert [len(half) for half in halves] == [len(whole)] * 2
    both = [row for half in halves for row in half[0].inputs.tolist()]
    assert sorted(both) == sorted(whole[0].inputs.tolist())


def test_shuffled_chunks_change_with_the_epoch_and_not_with_the_asking(smoke):
    task = build_task(smoke(*LANGUAGE, "task.shuffle=true"))
    first, again, other = (next(iter(task.batches(epoch, Shard()))).inputs for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("rule, feedback", [("bp", "macro"), ("dfa", "macro"), ("dfa", "micro"), ("shallow", "micro")])
def test_a_run_reports_perplexity_per_token_and_per_word(smoke, rule, feedback):
    metrics = execute(smoke(*LANGUAGE, f"rule={rule}", f"feedback={feedback}", "model.norm=pre")).result.metrics
    for split in ("val", "test"):
        assert 1 < metrics[f"{split}/perplexity"] < 400 < metrics[f"{split}/word_perplexity"]


def test_macro_and_micro_are_different_runs_with_feedback_and_the_same_with_bp(smoke):
    for rule, runs in (("bp", 1), ("dfa", 2), ("shallow", 2)):
        chosen = [smoke(*LANGUAGE, f"rule={rule}", "recipe.of=bp", f"feedback={f}") for f in ("macro", "micro")]
        assert len({run_identity(settings)[0] for settings in chosen}) == runs


def test_the_columns_of_table_5_build_on_one_another():
    steps = ("baseline", "adam", "beta2", "schedule")
    recipes = [run_settings([*LANGUAGE, "scale=paper", f"recipe=transformer/{step}"]).recipe for step in steps]
    baseline, adam, beta2, schedule = recipes
    assert baseline.lr == pytest.approx(512**-0.5 * 4000**-0.5)
    assert (baseline.betas, baseline.eps, baseline.gradient_clip) == ((0.9, 0.98), 1e-9, 0.5)
    assert (baseline.schedule.name, baseline.schedule.steps) == ("inverse_sqrt", 4000)
    assert (adam.lr, adam.schedule.name, adam.betas) == (5e-5, "constant", baseline.betas)
    assert beta2 == adam.model_copy(update={"betas": (0.9, 0.999)})
    assert (schedule.lr, schedule.betas) == (1e-4, beta2.betas)
    assert (schedule.schedule.name, schedule.schedule.factor, schedule.schedule.patience) == ("plateau", 0.2, 1)


def test_only_the_number_for_micro_with_a_schedule_is_of_22_epochs():
    cells = {
        (cell.row, cell.column): cell for cell in load_experiment(resource_folder("experiments"), "table5").cells()
    }
    expected = {("Macro", "+ LR schedule"): 20, ("Micro", "+ β2 = 0.999"): 20, ("Micro", "+ LR schedule"): 22}
    at_paper = {place: run_settings([*cells[place].overrides, "scale=paper"]).trainer for place in expected}
    assert {place: trainer.max_epochs for place, trainer in at_paper.items()} == expected
    reduced = run_settings([*cells["Micro", "+ LR schedule"].overrides, "scale=cpu"])
    assert reduced.trainer.max_epochs == reduced.task.arguments["epochs"] == 20


def test_radam_differs_from_a_constant_rate_in_the_optimizer_only():
    constant, rectified = (
        run_settings([*LANGUAGE, "rule=dfa", "scale=paper", f"recipe=transformer/{name}"]).recipe
        for name in ("beta2", "radam")
    )
    assert rectified == constant.model_copy(update={"optimizer": "radam"})
    optimizer = build_optimizer(nn.Linear(1, 1), rectified)
    assert isinstance(optimizer, torch.optim.RAdam)
    assert optimizer.defaults["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("column", ["baseline", "adam", "schedule_22"])  # micro's schedule has 22 epochs
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_each_cell_of_table_5_is_the_papers_protocol_at_scale_paper(column, variant):
    chosen = [
        "task=language",
        "dataset=wikitext-103",
        "model=transformer",
        "rule=dfa",
        "scale=paper",
        f"variant={variant}",
    ]
    chosen += ["feedback=micro", f"recipe=transformer/{column}"]
    assert run_settings(chosen).protocol == "paper"
    assert run_settings([*chosen, "recipe.lr=0.1"]).protocol == "reduced"


@pytest.mark.parametrize("scale, dataset", [("cpu", "wikitext-2"), ("smoke", "wikitext-2"), ("paper", "wikitext-103")])
def test_the_tables_corpus_is_the_one_of_its_scale_and_nothing_of_another(scale, dataset):
    chosen = ["task=language", "model=transformer", f"scale={scale}"]
    by_scale, by_name = (run_settings([*chosen, f"dataset={name}"]).dataset for name in ("wikitext", dataset))
    assert by_scale == by_name


def test_the_released_variant_trains_its_tokenizer_on_wikitext_2():
    chosen = ["task=language", "dataset=wikitext-103", "model=transformer"]
    released, paper = (run_settings([*chosen, f"variant={v}"]).task.arguments for v in ("released", "paper"))
    assert released["tokenizer_from"]["name"] == "WikiText-2"
    assert paper["tokenizer_from"] is None


@pytest.mark.parametrize(
    "override, message",
    [
        ("task.context=17", "task.context=17 is more than the model has: raise model.positions=16"),
        ("task.val_tokens=7", "task.val_tokens=7 is less than two tokens for each of 4 streams"),
        ("task.vocabulary=20", "task.vocabulary=20: must be at least 258"),
        ("model.heads=3", "width=16 must be even and a multiple of heads=3"),
        ("model.norm=none", "model.norm=none"),
    ],
)
def test_impossible_settings_are_told(smoke, override, message):
    with pytest.raises(ConfigError, match=message):
        build_task(smoke(*LANGUAGE, override)).build_model()


def test_a_corpus_shorter_than_a_batch_is_told(smoke):
    with pytest.raises(CorruptData, match=r"split has \d+ tokens, fewer than the \d+ of one batch. Lower task.streams"):
        build_task(smoke(*LANGUAGE, "task.streams=100000", "task.val_tokens=null"))


def test_a_budget_that_cannot_be_kept_is_told(smoke):
    with pytest.raises(ConfigError, match=r"max_tokens=100 is less than a batch of 4 x 16 tokens in each of 2 epochs"):
        build_task(smoke(*LANGUAGE, "trainer.max_tokens=100", "trainer.max_epochs=2"))
    task = build_task(smoke(*LANGUAGE, "task.streams=3"))
    with pytest.raises(ConfigError, match=r"task\.streams=3 does not divide into 2 processes"):
        task.batches(1, Shard(0, 2))


def test_a_budget_of_several_passes_shuffles_again(smoke):
    once = build_task(smoke(*LANGUAGE, "task.shuffle=true", "trainer.max_tokens=null"))
    chunks = (len(once.ids) - 1) // 16
    budget = 3 * chunks * 16
    thrice = build_task(smoke(*LANGUAGE, "task.shuffle=true", f"trainer.max_tokens={budget}", "trainer.max_epochs=1"))
    assert len(thrice.batches(1, Shard())) == 3 * chunks // 4


def test_an_infinite_perplexity_can_be_read_back(smoke):
    settings = smoke(*LANGUAGE, "rule=bp", "recipe=transformer/adam", "recipe.lr=100", "recipe.gradient_clip=null")
    result = execute(settings).result
    assert math.isinf(result.metrics["test/word_perplexity"])
    assert execute(settings).result.metrics == result.metrics
    assert math.isnan(exponential(math.nan))


def test_the_tokenizers_corpus_makes_another_run(tmp_path: Path):
    chosen = ["task=language", "dataset=wikitext-103", "model=transformer", "rule=bp", "data.download=false"]
    write_text(tmp_path / "a" / "wikitext-103")
    write_text(tmp_path / "a" / "wikitext-2")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_text(tmp_path / "b" / "wikitext-2", LINES | {"train": LINES["train"][:-5]})

    def identities(variant: str) -> list[str]:
        where = [(f"data.root={tmp_path / root}", f"data.cache={tmp_path / 'cache'}") for root in ("a", "b")]
        return [run_identity(run_settings([*chosen, f"variant={variant}", *each]))[0] for each in where]

    assert len(set(identities("released"))) == 2  # trains it on WikiText-2
    assert len(set(identities("paper"))) == 1


def test_a_tokenizers_corpus_that_is_a_name_is_told(smoke, tmp_path):
    write_text(tmp_path / "wikitext-2")
    real = "data.stand_in=false", f"data.root={tmp_path}", f"data.cache={tmp_path}"
    with pytest.raises(ConfigError, match="dataset@task.tokenizer_from=wikitext-2"):
        build_task(smoke(*LANGUAGE, "task.tokenizer_from=wikitext-2", *real))


def test_a_budget_of_tokens_is_refused_where_nothing_counts_them(smoke):
    with pytest.raises(ConfigError, match="trainer.max_tokens=100: task=nodes does not count tokens"):
        smoke("trainer.max_tokens=100")


def test_a_loss_that_becomes_nan_stops_the_run(smoke):
    result = execute(smoke(*LANGUAGE, "rule=bp", "recipe.lr=1e30", "recipe.gradient_clip=null")).result
    assert result.status == "diverged"
    assert "recipe.lr" in result.message


def test_bfloat16_trains(smoke):
    assert execute(smoke(*LANGUAGE, "rule=dfa", "trainer.precision=bf16-mixed")).result.status == "finished"


def test_two_processes_train_as_one_does(smoke):
    fixed = (*LANGUAGE, "rule=dfa", "model.dropout=0", "trainer.max_tokens=640")
    one, two = (execute(smoke(*fixed, f"trainer.devices={devices}")).result for devices in (1, 2))
    assert one.metrics == pytest.approx(two.metrics, rel=1e-3)


def test_a_plateau_schedule_resumed_mid_patience_goes_on_bit_for_bit(smoke, tmp_path, monkeypatch):
    # So high a rate that validation gets worse: the plateau waits when the run stops.
    fixed = [*LANGUAGE, "rule=bp", "recipe=transformer/schedule", "recipe.lr=0.3", "trainer.max_epochs=8"]
    fixed += ["trainer.max_tokens=5120", "trainer.checkpoint_seconds=0"]
    whole = execute(smoke(*fixed, f"store.root={tmp_path / 'whole'}"))
    lines = Record(whole.folder).read_metrics()
    values, rates = [line["val/perplexity"] for line in lines], [line["lr"] for line in lines]
    waiting = next(epoch for epoch in range(2, 8) if values[epoch - 1] > min(values[: epoch - 1]))
    assert rates[waiting - 1] == rates[waiting - 2], "not in its patience any more"
    assert len(set(rates)) > 1, "no plateau was found"

    seed_epoch = loop.seed_epoch

    def stops(seed, epoch, rank):
        if epoch == waiting + 1:
            raise KeyboardInterrupt
        seed_epoch(seed, epoch, rank)

    monkeypatch.setattr(loop, "seed_epoch", stops)
    settings = smoke(*fixed)
    with pytest.raises(KeyboardInterrupt):
        execute(settings)
    monkeypatch.undo()
    assert len(record_of(settings, run_identity(settings)[0]).read_metrics()) == waiting
    resumed = execute(settings)
    again = Record(resumed.folder).read_metrics()
    assert [{**line, "seconds": 0} for line in again] == [{**line, "seconds": 0} for line in lines]
    assert resumed.result.metrics == whole.result.metrics
