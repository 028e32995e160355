"""Lazy Adam: Adam on what a batch looks up, and nothing elsewhere."""

import pytest
import torch
from torch import nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import RecipeSettings
from dfa_bench.training.optimizer import build_optimizer


class Scorer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(6, 3), nn.Linear(3, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids)).sum()


def trained(
    optimizer: str, batches: list[list[int]], model: Scorer | None = None
) -> tuple[Scorer, torch.optim.Optimizer]:
    model = model or Scorer()
    built = build_optimizer(model, RecipeSettings(optimizer=optimizer, lr=0.1))
    for ids in batches:
        built.zero_grad()
        model(torch.tensor(ids)).backward()
        built.step()
    return model, built


def test_rows_that_are_looked_up_each_time_move_as_with_adam():
    (lazy, _), (dense, _) = (trained(name, [[0, 1]] * 3) for name in ("lazy_adam", "adam"))
    torch.testing.assert_close(lazy.table.weight[:2], dense.table.weight[:2])
    torch.testing.assert_close(lazy.head.weight, dense.head.weight)


def test_rows_that_are_not_looked_up_stay_where_adam_would_move_them_by_momentum():
    (lazy, _), (dense, _) = (trained(name, [[0, 1], [2]]) for name in ("lazy_adam", "adam"))
    once, _ = trained("lazy_adam", [[0, 1]])
    assert torch.equal(lazy.table.weight[:2], once.table.weight[:2])
    assert not torch.equal(dense.table.weight[:2], once.table.weight[:2])


def test_its_state_goes_on_where_it_stopped():
    whole, _ = trained("lazy_adam", [[0, 1], [1, 2], [0]])
    model, built = trained("lazy_adam", [[0, 1], [1, 2]])
    resumed, fresh = trained("lazy_adam", [], model)
    fresh.load_state_dict(built.state_dict())
    fresh.zero_grad()
    resumed(torch.tensor([0])).backward()
    fresh.step()
    assert torch.equal(resumed.table.weight, whole.table.weight)
    assert fresh.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("recipe", [{"weight_decay": 0.1}, {"gradient_clip": 1.0}])
def test_what_needs_dense_gradients_is_refused(recipe):
    with pytest.raises(ConfigError, match="supports neither"):
        build_optimizer(Scorer(), RecipeSettings(optimizer="lazy_adam", lr=0.1, **recipe))


def test_a_model_without_tables_is_refused():
    with pytest.raises(ConfigError, match="no embedding table"):
        build_optimizer(nn.Linear(2, 2), RecipeSettings(optimizer="lazy_adam", lr=0.1))
