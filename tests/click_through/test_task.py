"""The click task: split, batches and metrics."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.base import Shard, build_dataset, build_task, data_card
from dfa_bench.tasks.click_through.bootstrap import Difference, paired_bootstrap
from dfa_bench.tasks.click_through.datasets import MovieLens
from dfa_bench.tasks.click_through.interactions import split_rows
from dfa_bench.tasks.click_through.planted import STAND_IN, Teacher, draw_chunks, planted
from dfa_bench.tasks.click_through.task import ClickPrediction, RowBatches
from dfa_bench.training.execute import execute


def task_of(*overrides: str):
    chosen = ["task=clicks", "dataset=criteo", "model=fm", "rule=bp", "scale=smoke", *overrides]
    return build_task(run_settings(chosen))


@given(st.integers(10, 1000))
def test_the_split_has_every_row_once_and_is_the_same_each_time(rows):
    parts = split_rows(rows)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(rows))
    assert len(parts["train"]) == int(0.8 * rows)
    assert all((parts[name] == split_rows(rows)[name]).all() for name in parts)


@given(rows=st.integers(2, 60), size=st.integers(1, 20))
def test_batches_go_through_the_rows_in_order_and_never_leave_one_alone(rows, size):
    order = np.random.default_rng(rows).permutation(STAND_IN.rows)[:rows]
    data = planted(STAND_IN._replace(rows=STAND_IN.rows))
    batches = list(RowBatches(data, order, size))
    assert len(batches) == len(RowBatches(data, order, size))
    seen = torch.cat([batch.ids for batch in batches]) if batches else torch.empty(0)
    np.testing.assert_array_equal(seen[: len(seen)], data.ids[order[: len(seen)]])
    assert rows - len(seen) <= 1
    assert all(len(batch.ids) > 1 for batch in batches) or size == 1


def test_two_processes_share_the_rows_of_one():
    task = task_of("task.batch=100")
    whole = list(task.batches(1, Shard()))
    halves = [list(task.batches(1, Shard(rank, 2))) for rank in (0, 1)]
    assert [len(half) for half in halves] == [len(whole)] * 2
    together = torch.cat([halves[0][0].ids, halves[1][0].ids])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, whole[0].ids.tolist()))


def test_the_order_is_fixed_unless_shuffled_and_then_follows_seed_and_epoch():
    fixed, shuffled = task_of(), task_of("task.shuffle=true")
    first = [next(iter(task.batches(epoch, Shard()))).ids for task in (fixed, shuffled) for epoch in (1, 2)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[2], first[3])
    assert torch.equal(first[2], next(iter(task_of("task.shuffle=true").batches(1, Shard()))).ids)


def test_metrics_are_those_of_the_whole_split():
    task = task_of()
    model = task.build_model().eval()
    rows = task.rows["val"]
    logits = model(torch.from_numpy(np.asarray(task.data.ids[rows]))).detach()
    clicked = np.asarray(task.data.labels[rows], dtype=float)
    by_hand = [-math.log(1 / (1 + math.exp(-z if y else z))) for z, y in zip(logits.tolist(), clicked, strict=True)]
    found = task.evaluate(model, "val")
    assert found["log_loss"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
    assert found["auc"] == pytest.approx(roc_auc_score(clicked, logits))


def test_planted_clicks_are_drawn_in_chunks_and_never_pass_for_real(tmp_path, monkeypatch):
    monkeypatch.setattr("dfa_bench.tasks.click_through.planted.CHUNK_ROWS", 300)
    sizes = ["dataset.rows=1000", "dataset.fields=3", "dataset.values=200"]
    chosen = run_settings(["task=clicks", "dataset=planted", "scale=cpu", *sizes, f"data.cache={tmp_path}"])
    card, task = data_card(chosen), build_task(chosen)
    assert (card.kind, card.whole, len(task.data.labels)) == ("stand-in", False, 1000)
    drawn = np.concatenate([chunk.keys[0] for chunk in draw_chunks(Teacher(1000, 3, 200, 0.5, 1.0, 1.0, 0))])
    ids = np.asarray(task.data.ids[:, 0])
    values = {each: np.unique(drawn[ids == each]) for each in np.unique(ids)}
    assert len(values.pop(0)) > 100  # rare values share an id
    assert {len(each) for each in values.values()} == {1}


def test_a_teacher_without_products_of_three_fields_is_refused():
    with pytest.raises(ConfigError, match=r"dataset\.fields=2: input should be greater than or equal to 3"):
        build_dataset(run_settings(["task=clicks", "dataset=planted", "scale=cpu", "dataset.fields=2"]))


def test_movielens_reads_both_layouts_alike(tmp_path):
    rows = [(1, 10, 5), (1, 20, 3), (2, 10, 4), (2, 30, 1)]
    for name, text in {
        "a/ml-1m/ratings.dat": "".join(f"{u}::{m}::{r}::978300760\n" for u, m, r in rows),
        "b/ml-1m/ratings.csv.gz": "user_id,movie_id,rating\n" + "".join(f"{u},{m},{r}\n" for u, m, r in rows),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        loaded = MovieLens("MovieLens-1M", "").load(DataSettings(root=str(path.parents[1]), cache=str(tmp_path / "c")))
        assert loaded.labels.tolist() == [1, 0, 1, 0]
        assert loaded.ids.tolist() == [[2, 6], [2, 7], [3, 6], [3, 8]]


def test_a_rating_out_of_range_is_refused(tmp_path):
    path = tmp_path / "ml-1m" / "ratings.csv"
    path.parent.mkdir()
    path.write_text("user_id,movie_id,rating\n1,1,7\n")
    with pytest.raises(CorruptData, match="outside 1 to 5"):
        MovieLens("MovieLens-1M", "").load(DataSettings(root=str(tmp_path), cache=str(tmp_path / "c")))


def test_the_real_ratings_are_a_million(real_data, tmp_path):
    loaded = MovieLens("MovieLens-1M", "").load(DataSettings(root=str(real_data), cache=str(tmp_path)))
    assert loaded.ids.shape == (1000209, 2)
    assert len(np.unique(loaded.ids[:, 0])) == 6040


ROOT = Path(__file__).parents[2]


def test_the_rates_at_cpu_scale_are_those_that_the_search_chose():
    found = pd.read_csv(ROOT / "results" / "search" / "table2.csv")
    names = {"FM": "fm", "DeepFM": "deepfm", "Deep&Cross": "dcn", "AFN": "afn", "AutoInt": "autoint"}
    for (column, variant, rule), cells in found.groupby(["column", "variant", "rule"]):
        best = float(cells.loc[cells["mean"].idxmax(), "row"].removeprefix("rate "))
        chosen = ["task=clicks", "dataset=criteo", f"model={names[column]}", f"variant={variant}", f"rule={rule}"]
        assert run_settings(chosen).recipe.lr == best, (column, variant, rule)


def test_a_run_on_the_stand_in_is_recorded(tmp_path):
    chosen = ["task=clicks", "dataset=criteo", "model=deepfm", "rule=dfa", "scale=smoke", f"store.root={tmp_path}"]
    outcome = execute(run_settings([*chosen, "trainer.progress=none", "trainer.accelerator=cpu"]))
    result = json.loads((outcome.folder / "result.json").read_text())
    assert {"test/auc", "test/log_loss", "val/auc"} <= result["metrics"].keys()
    assert result["data_kind"] == "stand-in"


def test_the_bootstrap_is_nought_for_equal_scores_and_narrows_with_rows():
    random = np.random.default_rng(0)

    def error(rows: int) -> float:
        labels = random.integers(0, 2, rows)
        ours, theirs = (labels + random.standard_normal(rows) for _ in range(2))
        return paired_bootstrap(labels, [ours], [theirs], draws=200, seed=0).error

    labels, scores = np.array([0, 1] * 20), random.standard_normal(40)
    same = paired_bootstrap(labels, [scores], [scores], draws=20, seed=0)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert error(400) / error(6400) == pytest.approx(4, rel=0.3)


def test_the_bootstrap_difference_is_the_mean_over_seeds():
    labels = np.array([0, 0, 1, 1])
    right, wrong = np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])
    found = paired_bootstrap(labels, [right, right], [wrong, right], draws=10, seed=0)
    assert found.mean == 0.5  # 1 with the first seed, 0 with the second
    assert found.rows == 4


def test_twice_the_precision_needs_four_times_the_rows():
    assert Difference(0.0, -0.01, 0.01, error=0.005, rows=1000).rows_to_decide(0.0098) == 1000
    assert Difference(0.0, -0.01, 0.01, error=0.005, rows=1000).rows_to_decide(0.0049) == 4000


def test_a_sample_of_the_rows_is_never_the_papers_protocol(tmp_path):
    path = tmp_path / "ml-1m" / "ratings.csv"
    path.parent.mkdir()
    rows = "".join(f"{1 + k % 7},{1 + k % 11},{1 + k % 5}\n" for k in range(300))
    path.write_text("user_id,movie_id,rating\n" + rows)
    where = (
        f"data.root={tmp_path}",
        f"data.cache={tmp_path}/cache",
        f"store.root={tmp_path}/runs",
        "trainer.progress=none",
    )
    chosen = run_settings(["task=clicks", "dataset=movielens-1m", "model=fm", "rule=bp", "scale=paper", *where])
    assert chosen.protocol == "paper"
    assert execute(chosen).result.protocol == "reduced"


@pytest.mark.parametrize(
    "model, rule, rate, epochs, batch",
    [
        ("deepfm", "dfa", 5e-5, 30, 2048),
        ("dcn", "dfa", 5e-5, 15, 512),
        ("dcn", "shallow", 1e-3, 30, 2048),
        ("fm", "bp", 1e-4, 15, 2048),
    ],
)
def test_the_paper_scale_has_the_papers_recipes(model, rule, rate, epochs, batch):
    chosen = run_settings(["task=clicks", "dataset=criteo", f"model={model}", f"rule={rule}", "scale=paper"])
    assert (chosen.recipe.lr, chosen.trainer.max_epochs, chosen.task.arguments["batch"]) == (rate, epochs, batch)
    assert chosen.trainer.keep == "best_if_stopped"
    assert chosen.protocol == "paper"


def test_only_autoints_shallow_attention_drops_weights():
    for rule, dropout in {"bp": 0.0, "dfa": 0.0, "shallow": 0.5}.items():
        chosen = run_settings(["task=clicks", "model=autoint", f"rule={rule}", "scale=paper"])
        assert chosen.model.arguments["attention_dropout"] == dropout


def test_the_clean_models_are_never_the_papers_protocol():
    chosen = ["task=clicks", "model=deepfm", "scale=paper"]
    assert [run_settings([*chosen, f"variant={each}"]).protocol for each in ("released", "clean")] == [
        "paper",
        "reduced",
    ]


def test_outputs_that_are_nan_end_the_run_instead_of_being_ranked(smoke, monkeypatch):
    monkeypatch.setattr(ClickPrediction, "evaluate", lambda *given, **shard: {"auc": math.nan, "log_loss": math.nan})
    result = execute(smoke("task=clicks", "model=fm", "rule=bp", "trainer.max_epochs=2")).result
    assert (result.status, result.metrics) == ("diverged", {})
    assert result.message.startswith("val/auc became NaN in epoch 1")
