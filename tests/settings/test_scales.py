"""What scale=gpu takes from the paper's setting, and what it reduces."""

import pytest

from dfa_bench.experiments.protocol import run_settings

REDUCED = {
    "view_synthesis": ["dataset=lego"],
    "real views": ["task=view_synthesis", "dataset=fern"],
    "clicks": ["model=dcn"],
    "language": ["model=transformer"],
}


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("rule", ["bp", "dfa"])
def test_a_quarter_of_an_hour_on_a_gpu_has_the_papers_network_data_rate_and_batch(name, rule):
    overrides = [f"task={name}", *REDUCED[name]] if " " not in name else REDUCED[name]
    paper, quarter = (run_settings([*overrides, f"rule={rule}", f"scale={scale}"]) for scale in ("paper", "gpu"))
    assert (paper.protocol, quarter.protocol) == ("paper", "reduced")
    assert quarter.model == paper.model
    assert quarter.dataset == paper.dataset
    assert quarter.recipe.lr == paper.recipe.lr
    for size in {"rays", "batch", "streams", "context", "vocabulary"} & paper.task.arguments.keys():
        assert quarter.task.arguments[size] == paper.task.arguments[size]
    fewer = quarter.trainer.max_tokens is not None or quarter.trainer.max_epochs < paper.trainer.max_epochs
    assert fewer


@pytest.mark.parametrize("model", ["gcn", "gae"])
def test_graphs_need_no_reduction_there(model):
    task = "links" if model == "gae" else "nodes"
    assert run_settings([f"task={task}", f"model={model}", "scale=gpu"]).protocol == "paper"
