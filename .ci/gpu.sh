#!/usr/bin/env bash
# What a GPU that is lent for a quarter of an hour is asked, the most important first: tests of captured steps, the table
# of docs/benchmarks.md without and with them, all other tests that need CUDA, memory, numerics, and runs at scale=paper.
#
#     OUT=build/gpu PYTHON=.venv/bin/python .ci/gpu.sh
#
# Each part has a limit of its own, ten minutes in all, and a log in OUT; one that fails or is stopped stops no other.
# Without a GPU the parts run at toy size or are skipped, to show that they run.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${OUT:-build/gpu} python=${PYTHON:-python3}
mkdir -p "$out"
device=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')

part() {
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    timeout -k 5 "$limit" "$python" "$@" >"$out/$name.log" 2>&1
    echo "$name: status $? after $((SECONDS - started)) s; $(tail -n 1 "$out/$name.log")"
}

runs=(store.root="$out/runs" trainer.accelerator=auto trainer.progress=none)
part capture 90 -m pytest -q tests/training/test_capture.py -k "gcn or view_synthesis"
part steps 110 benchmarks/gpu.py --steps 30 --json "$out/steps.json"
part steps-captured 110 benchmarks/gpu.py --steps 30 --json "$out/steps-captured.json" trainer.capture=true
part tests 100 -m pytest -q tests/training/test_capture.py tests/training/test_placement.py tests/training/test_memory.py
part memory 40 benchmarks/memory.py --steps 2 --device "$device"
part numerics 60 benchmarks/numerics.py trainer.tf32=true --only gcn gae --seeds 5 --store "$out/numerics"
part runs 80 -m dfa_bench run -m task=nodes dataset=cora model=gcn,gat rule=bp,dfa 'seed=range(0,3)' scale=paper "${runs[@]}"
part pack 20 -m dfa_bench pack "$out/runs.zip" store.root="$out/runs"
