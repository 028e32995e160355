"""Too little memory: a sentence that says what to lower, and a sweep that goes on."""

import gc
import weakref

import pytest
import torch

from dfa_bench.errors import OutOfMemory
from dfa_bench.tasks.language.task import LanguageModelling
from dfa_bench.training import trainer as loop
from dfa_bench.training.execute import execute
from dfa_bench.training.memory import is_out_of_memory, out_of_memory

ENDLESS = 10**15  # units of a hidden layer: more bytes than a process can address


def test_a_sweep_goes_on_after_a_run_without_memory(say, tmp_path):
    options = ["task=nodes", "model=gcn", "rule=bp", "scale=smoke", f"store.root={tmp_path}", "trainer.accelerator=cpu"]
    status, out, err = say("run", "-m", *options, "trainer.max_epochs=1", f"model.hidden={ENDLESS},4")
    assert status == 1
    (told,) = [line for line in err.splitlines() if "Out of memory" in line]
    assert "on cpu" in told
    assert "Lower the sizes of the model" in told
    assert "1 of 2 runs are done." in out


def test_the_sentence_names_what_the_memory_of_a_step_grows_with(smoke):
    settings = smoke("task=language", "rule=dfa")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")
    assert is_out_of_memory(error)
    assert str(out_of_memory(error, settings, torch.device("cuda", 0))) == (
        "Out of memory on cuda:0 when 2.00 GiB more was requested. Lower task.streams=4 or task.context=16 or the "
        "sizes of the model, or set trainer.precision=bf16-mixed or trainer.data_on_device=false."
    )
    captured = smoke("task=language", "rule=dfa", "trainer.capture=auto")
    assert str(out_of_memory(error, captured, torch.device("cuda", 0))).endswith("or trainer.capture=false.")
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))  # of a context, when other processes fill it
    assert not is_out_of_memory(RuntimeError("shape '[3]' is invalid"))


def test_nothing_of_a_run_without_memory_is_kept(smoke, monkeypatch):
    models = []
    build = loop.build_learner

    def watched(*arguments):
        model, attachment = build(*arguments)
        models.append(weakref.ref(model))
        return model, attachment

    def failing(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loop, "build_learner", watched)
    monkeypatch.setattr(LanguageModelling, "loss", failing)
    with pytest.raises(OutOfMemory) as told:
        execute(smoke("task=language", "rule=dfa"))
    gc.collect()
    assert models[0]() is None
    assert "requested" not in str(told.value)
