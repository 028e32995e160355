"""The command line: `dfa-bench run | reproduce | table | claims | results | figure | ...`."""

from __future__ import annotations

import os
import pkgutil
import re
import sys
from typing import NamedTuple

from dfa_bench.errors import UserError

USAGE = """\
dfa-bench: train modern networks with Direct Feedback Alignment or backpropagation, and reproduce Launay et al. 2020.

  dfa-bench run task=nodes model=gcn dataset=cora rule=dfa    one run; with -m a sweep (dfa-bench run --help)
  dfa-bench reproduce table3 seeds=10                         run what a table lacks, then write it to results/
  dfa-bench table 3                                           show a table from the runs that exist
  dfa-bench claims                                            what the paper concludes, checked over the runs that exist
  dfa-bench results                                           write all tables anew from the runs that exist
  dfa-bench runs task=nodes model=gcn                         the runs that there are, filtered
  dfa-bench report                                            one HTML page of claims, tables, figures and their runs
  dfa-bench figure 2                                          draw a figure; trains what it needs
  dfa-bench curves table2                                     draw the validation metric over training
  dfa-bench bootstrap table2                                  how sure the differences of click models are
  dfa-bench evaluate-checkpoint lego                          PSNR of a NeRF that the paper's authors released
  dfa-bench render RUN                                        an animation of what a run of NeRF has learnt
  dfa-bench sample RUN --prompt "the castle"                  text that a run of the Transformer goes on with
  dfa-bench align RUN                                         how well a run's gradients agree with BP's
  dfa-bench data                                              which data sets are here, and where to get the others

Each command has a --help of its own.
"""


REPRODUCE = """\
dfa-bench reproduce TABLE... [seeds=N] [jobs=N] [results=DIR] [OVERRIDE...]

Runs what the tables lack, the longest first, on all cores; then writes results/TABLE.{md,csv,tex} and adds the runs to
results/runs.csv. Runs that stand there or in the run store count as done, so the same command goes on where it stopped,
and a larger `seeds` adds seeds.

  TABLE      table3, table4, ..., all of them as `all`; studies of our own: studies/dna_feedback, ...,
             all of a folder by its name: `studies`, `search` (of hyperparameters), `first` (short first looks)
  seeds=N    seeds 0 to N-1 of each cell (default 1)
  jobs=N     runs at a time (default: the number of cores)
  results=DIR  where tables go (default results)
  skip=PATTERN,...  cells that get no new runs, by row and column: skip=PubMed/DNAConv or skip='*/DNAConv'
  OVERRIDE   of every run, as with `dfa-bench run`: scale=cpu|paper|smoke, store.root=DIR, data.root=DIR, ...

Examples:
  dfa-bench reproduce table3 table4 seeds=10
  dfa-bench reproduce all scale=smoke        on generated data, in seconds: proves that everything runs
"""

TABLE = """\
dfa-bench table TABLE... [seeds=N] [results=DIR] [OVERRIDE...]

Shows tables from the runs that exist, in the run store and in results/runs.csv; runs nothing. All seeds that are done,
or the first N.

Examples:
  dfa-bench table 3
  dfa-bench table all seeds=3
"""

CLAIMS = """\
dfa-bench claims [TABLE...] [seeds=N] [results=DIR] [OVERRIDE...]

Checks what the paper concludes from its tables over the runs that exist, in the run store and in results/runs.csv:
supported, not supported, undecided (the interval straddles what is claimed), or not tested (too few seeds).

Examples:
  dfa-bench claims
  dfa-bench claims table3 studies/regularisation
"""


RESULTS = """\
dfa-bench results [TABLE...] [seeds=N] [results=DIR] [OVERRIDE...]

Writes results/TABLE.{md,csv,tex} and TABLE-claims.md anew from the runs that exist, in the run store and in
results/runs.csv, and runs nothing. README.md and docs/*.md beside the results quote these files between
<!-- from results/table3.md --> and <!-- end -->; the quotes are renewed.

Examples:
  dfa-bench results
  dfa-bench results table3
"""

RUNS = """\
dfa-bench runs [FILTER...] [each] [results=DIR] [store.root=DIR]

Lists the runs of results/runs.csv and of the run store, those that differ in their seed in one line: mean ± standard
deviation over seeds. Where runs of one seed differ in settings that runs.csv does not name, their range stands there
instead, and `each` shows them one by one.

  task= dataset= model= rule= variant= scale= protocol= data_kind= seed= status= identity= commit= device=
                      by pattern, several with commas: model=gcn,gat device='*EPYC*'
  seeds=N             with at least N seeds
  age=2d              finished within 2 days (m, h, d, w)
  'test/accuracy>0.8' by a metric (also <, >=, <=)
  metric=NAME         the metric that is shown (default: the first of the test set)

Examples:
  dfa-bench runs task=nodes model=gcn
  dfa-bench runs rule=dfa age=1d metric=val/auc each
"""

REPORT = """\
dfa-bench report [TABLE...] [seeds=N] [results=DIR] [OVERRIDE...]

Writes results/report.html from the runs that exist, in the run store and in results/runs.csv, and runs nothing: the
paper's claims with verdicts, each table beside the paper's numbers, curves and figures that lie in the results, cost,
and for every number its runs, seeds, configuration and the command that runs it again. One file that needs no network.

Examples:
  dfa-bench report
  dfa-bench report all scale=smoke           stand-ins, in a section of their own
  dfa-bench report logger=wandb              also logs all results as an artifact of Weights & Biases
"""

FIGURE = """\
dfa-bench figure 1|2|alignment [results=DIR] [OVERRIDE...]

Draws a figure of the paper as png (all but figure 1 as svg too), with its numbers and runs in a json file; trains the
runs that it needs if they are not in the run store.

  1   held-out views by NeRF with BP, DFA, shallow training and the authors' released models; error maps and depth.
      scenes=lego,fern chooses scenes, neighbours=no leaves multi-view consistency out
  2   t-SNE of the hidden layer of GraphConv on Cora, with BP, DFA and shallow training
  alignment  cosine between DFA's and BP's gradients over training, by layer (appendix A), a panel for each model.
      models=gcn,dna draws these anew and keeps the other panels

Stand-ins are drawn as NAME-stand-in, and runs with settings of your own as NAME-changed.

Examples:
  dfa-bench figure 2
  dfa-bench figure alignment models=cheb,gcn,spline,gat,gae
  dfa-bench figure 2 seed=3 results=/tmp/figures
"""

CURVES = """\
dfa-bench curves TABLE... [seeds=N] [results=DIR] [OVERRIDE...]

Draws the validation metric of a table's runs over training, BP, DFA and shallow over each other, as
results/TABLE-curves.{png,svg}: a panel for each cell over epochs, or what `curves` in the table's file says (Table 5:
over training tokens, the columns of a row in one panel). Only runs in the run store have curves; results/runs.csv keeps
final numbers.

Examples:
  dfa-bench curves table2
"""

BOOTSTRAP = """\
dfa-bench bootstrap TABLE... [seeds=N] [results=DIR] [OVERRIDE...]

Resamples the test rows of click models in the run store, the same rows for BP and DFA, and writes
results/TABLE-bootstrap.{md,csv}: the difference in AUC, its interval, and how many test rows would decide about 0.001.

Examples:
  dfa-bench bootstrap table2
"""

DATA = """\
dfa-bench data [get NAME...] [data.root=DIR] [data.cache=DIR]

Lists the data sets: which are here, and where the others come from. `get` downloads some into the cache, large ones
too (lego and fern, in one archive; the other scenes' lie where only a browser gets them). A download that breaks off
goes on by the same command.

Examples:
  dfa-bench data
  dfa-bench data get cora pubmed
  dfa-bench data get lego fern data.cache=/big/disk
"""


EVALUATE = """\
dfa-bench evaluate-checkpoint SCENE [--views WHICH] [--stride N] [--checkpoint PATH] [--json FILE] [OVERRIDE...]

Renders held-out views of a scene with a NeRF that the paper's authors trained with DFA and released, and compares them
with the photographs: PSNR of the fine and the coarse network. Their files are read as data; code in them is never run.

  SCENE         lego, chair, drums, ship, ..., fern, flower, ...
  --views       numbers of the official files, 0,56,120; `all` of the test split (default); or `nearest`, the one view
                nearest to the mean position, on which the authors test real scenes
  --stride N    pixels 0, N, 2N, ... of rows and columns (default 8); 1: all pixels, and SSIM
  --checkpoint  another file of the same form (default: SCENE's in DIR/nerf_checkpoints of the data folder)
  --json FILE   writes the numbers, view by view: what is finished is kept when it is interrupted
  OVERRIDE      data.root=DIR, dataset.longest_side=200, dataset.images=images_4, ...

Synthetic scenes are rendered at 800 x 800 (200 x 200 where only such a copy is here), real ones as in images_8.

Examples:
  dfa-bench evaluate-checkpoint lego --stride 8 --views 0,56,120 --json lego.json
  dfa-bench evaluate-checkpoint fern --views nearest --stride 1
"""


RENDER = """\
dfa-bench render RUN [--path orbit] [--frames N] [--width PIXELS] [--out FILE]

Renders a path of the camera through the scene that a finished run of task=view_synthesis has learnt, as an animation.

  RUN       folder of the record, the last line that `dfa-bench run` prints
  --path    orbit: around synthetic scenes, an ellipse before real ones (default)
  --frames  how many (default 30)
  --width   of the images in pixels (default: that of the run's views)
  --out     FILE.gif or FILE.webp (default: RUN/orbit.gif)

Example:
  dfa-bench render runs/view_synthesis-lego-nerf-dfa-s0-0123456789abcdef --width 100 --out orbit.webp
"""

ALIGN = """\
dfa-bench align RUN [--json FILE]

Compares the gradients of DFA with BP's at the weights of a finished run, on its first training batch, with the same
dropout masks. Two tables: cosines at the outputs of modules, row by row (per sample, node, token or point of a ray);
cosine and ratio of norms of each parameter's gradient. 1: the same direction as BP; about 0: none in common.

  RUN          folder of the record of a run with rule=dfa or fa, the last line that `dfa-bench run` prints
  --json FILE  writes the numbers

Examples:
  dfa-bench align runs/nodes-cora-gcn-dfa-s0-0123456789abcdef
  dfa-bench run model=gcn rule=dfa trainer.alignment_every=10     measures along training, into metrics.jsonl
"""


SAMPLE = """\
dfa-bench sample RUN [--prompt TEXT] [--tokens N] [--temperature T] [--seed N] [--tokenizer FILE]

Prints a prompt, lower-cased as in training, and what a finished run of task=language goes on with.

  RUN            folder of the record, the last line that `dfa-bench run` prints
  --prompt       where to start (default: at the start of a line)
  --tokens       how many follow (default 100)
  --temperature  below 1 prefers likely tokens (default 0.8)
  --seed         of the draws (default 0)
  --tokenizer    tokenizer.json of the run (default: made from the corpus in the data folder, or taken from the cache)

Example:
  dfa-bench sample runs/language-wikitext-2-transformer-dfa-s0-0123456789abcdef --prompt "The castle was built in"
"""


class Command(NamedTuple):
    help: str  # "": the command prints its own
    target: str  # module:function, which takes the arguments and returns the exit status
    needs_arguments: bool = False


COMMANDS = {
    "run": Command("", "dfa_bench.commands.run:main"),
    "reproduce": Command(REPRODUCE, "dfa_bench.commands.reproduce:reproduce_command", needs_arguments=True),
    "table": Command(TABLE, "dfa_bench.commands.reproduce:table_command", needs_arguments=True),
    "claims": Command(CLAIMS, "dfa_bench.commands.reproduce:claims_command"),
    "results": Command(RESULTS, "dfa_bench.commands.reproduce:results_command"),
    "runs": Command(RUNS, "dfa_bench.commands.runs:main"),
    "report": Command(REPORT, "dfa_bench.commands.report:main"),
    "figure": Command(FIGURE, "dfa_bench.commands.figure:main", needs_arguments=True),
    "curves": Command(CURVES, "dfa_bench.commands.curves:main", needs_arguments=True),
    "bootstrap": Command(BOOTSTRAP, "dfa_bench.commands.bootstrap:main", needs_arguments=True),
    "evaluate-checkpoint": Command(EVALUATE, "dfa_bench.commands.evaluate_checkpoint:main", needs_arguments=True),
    "render": Command(RENDER, "dfa_bench.commands.render:main", needs_arguments=True),
    "sample": Command(SAMPLE, "dfa_bench.commands.sample:main", needs_arguments=True),
    "align": Command(ALIGN, "dfa_bench.commands.align:main", needs_arguments=True),
    "data": Command(DATA, "dfa_bench.commands.data:main"),
}


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] in (["-sc"], ["--shell-completion"]):  # the shell asks without the word `run`
        arguments = ["run", *arguments]
        _complete_behind_command()
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(USAGE, end="")
        sys.exit(0)
    if name not in COMMANDS:
        sys.exit(f"dfa-bench has no command '{name}'.\n\n{USAGE}")
    command = COMMANDS[name]
    asked = rest[:1] in (["-h"], ["--help"])
    if command.help and (asked or (command.needs_arguments and not rest)):
        print(command.help, end="")
        sys.exit(0 if asked else 2)
    try:
        sys.exit(pkgutil.resolve_name(command.target)(rest))  # imports what it needs, so that --help answers at once
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def _complete_behind_command() -> None:
    """Give Hydra the line without the word `run`; if that is being typed, complete it here."""
    line = os.environ.get("COMP_LINE", "")
    if re.fullmatch(r"\s*\S+\s+\w*", line):
        print(*COMMANDS)
        sys.exit(0)
    os.environ["COMP_LINE"] = re.sub(r"^(\s*\S+)\s+run\b", r"\1", line)
