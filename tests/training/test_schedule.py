"""Learning rates over training, against their formulas."""

import pytest
import torch
from torch import nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import ScheduleSettings, parse_settings
from dfa_bench.tasks.base import Watch
from dfa_bench.training.schedule import build_schedule

LOSS = Watch("loss", "lower")


def rates(settings: ScheduleSettings, steps: int, peak: float = 1.0) -> list[float]:
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), peak)
    schedule = build_schedule(optimizer, settings, steps, LOSS)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after_step()
    return found


def test_exponential_falls_by_the_factor_every_so_many_steps():
    found = rates(ScheduleSettings(name="exponential", factor=0.1, steps=50), 101, peak=5e-4)
    assert [found[0], found[25], found[50], found[100]] == pytest.approx([5e-4, 5e-4 * 10**-0.5, 5e-5, 5e-6])


def test_inverse_square_root_is_that_of_vaswani_et_al():
    width, warmup, steps = 512, 40, 400
    found = rates(ScheduleSettings(name="inverse_sqrt", warmup=warmup / steps), steps, (width * warmup) ** -0.5)
    expected = [width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in range(1, steps + 1)]
    assert found == pytest.approx(expected)


def test_a_plateau_lowers_the_rate_after_its_patience():
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), 1.0)
    schedule = build_schedule(optimizer, ScheduleSettings(name="plateau", factor=0.2, patience=1), 1, LOSS)
    found = []
    for value in (3.0, 2.0, 2.5, 2.4, 2.3, 2.1, 1.0):
        schedule.after_evaluation(value)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([1, 1, 1, 0.2, 0.2, 0.04, 0.04])


def test_an_improvement_by_less_than_a_ten_thousandth_is_a_plateau():
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), 1.0)
    schedule = build_schedule(optimizer, ScheduleSettings(name="plateau", factor=0.2, patience=0), 1, LOSS)
    found = []
    for value in (4.0, 3.999, 3.9987):  # by 2.5 and by 0.75 ten-thousandths
        schedule.after_evaluation(value)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([1, 1, 0.2])


def test_one_cycle_rises_and_falls_once_and_goes_on_from_its_state():
    settings, steps = ScheduleSettings(name="one_cycle"), 100
    found = rates(settings, steps)
    assert (found[0], max(found), found[-1]) == pytest.approx((1 / 25, 1.0, 1 / 25e4))
    assert found.index(max(found)) == pytest.approx(0.3 * steps, abs=1)

    first, second = (torch.optim.Adam(nn.Linear(1, 1).parameters(), 1.0) for _ in range(2))
    before, after = (build_schedule(optimizer, settings, steps, LOSS) for optimizer in (first, second))
    for _ in range(50):
        first.step()
        before.after_step()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    second.step()
    after.after_step()
    assert second.param_groups[0]["lr"] == pytest.approx(found[51])


@pytest.mark.parametrize(
    "name, needed", [("exponential", "steps"), ("inverse_sqrt", "steps or recipe.schedule.warmup")]
)
def test_a_schedule_says_what_it_needs(smoke, name, needed):
    values = smoke().model_dump(by_alias=True)
    values["recipe"]["schedule"] = {"name": name}
    with pytest.raises(ConfigError, match=f"recipe.schedule.name={name} needs recipe.schedule.{needed}"):
        parse_settings(values)
