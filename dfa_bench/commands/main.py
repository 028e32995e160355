"""The command line: `dfa-bench COMMAND ...`. A command's module is imported when it runs or explains itself."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence
from signal import SIGINT

import click
from click.shell_completion import CompletionItem

from dfa_bench.errors import Preempted, UserError, did_you_mean
from dfa_bench.training.preemption import stop

# Each is `command` in the module of its name.
COMMANDS = {
    "run": "train one model with one learning rule, or sweep with -m",
    "reproduce": "do the missing runs of a table, then write it",
    "watch": "show how far the runs of tables are",
    "search": "search hyperparameters with equal budgets",
    "table": "show a table from the recorded runs",
    "claims": "check the paper's claims against the recorded runs",
    "results": "rewrite all tables from the recorded runs",
    "runs": "list recorded runs",
    "pack": "write finished runs into an archive",
    "collect": "bring finished runs of other machines here",
    "report": "write one HTML page with claims, tables, figures and their runs",
    "figure": "draw a figure of the paper, training what it needs",
    "curves": "plot validation metrics over training",
    "bootstrap": "bootstrap intervals for AUC differences",
    "evaluate-checkpoint": "measure the PSNR of a NeRF released by the paper's authors",
    "render": "render an animation from a trained NeRF",
    "sample": "continue a prompt with a trained Transformer",
    "align": "compare the gradients of a trained model's rule with backpropagation's",
    "data": "list data sets, and download them",
    "migrate": "give runs recorded by version 0.1 their current identities",
    "completion": "print the shell completion script",
}


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args or ["--help"])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = pkgutil.resolve_name(f"dfa_bench.commands.{cmd_name.replace('-', '_')}:command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"unknown command '{name}'.{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        named = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    subcommand_metavar="COMMAND ...",
)
@click.version_option(package_name="dfa-bench", message="%(prog)s %(version)s")
def cli() -> None:
    """Train modern networks with Direct Feedback Alignment or backpropagation, and reproduce Launay et al. 2020.

    \b
      dfa-bench run task=nodes model=gcn dataset=cora rule=dfa
      dfa-bench reproduce table3 --seeds 10
      dfa-bench table 3

    Options, names and Hydra overrides (scale=paper, store.root=DIR, data.root=DIR) may come in any order, and an option
    may be written KEY=VALUE: seeds=10 is --seeds 10. `dfa-bench COMMAND --help` explains a command.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0; 1 if runs failed; 2 for a mistake, told in one sentence; 75 or 130 by a signal."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    if given[:1] in (["-sc"], ["--shell-completion"]):  # Hydra's own completion script asks without the word `run`
        given = ["run", *given]
    code, told = _run(given)
    if code not in (0, 75, 130) and stop.raised is not None:  # a library has made an error of its own of it
        code, told = Preempted(stop.raised).status, str(Preempted(stop.raised))
    if told:
        print(told, file=sys.stderr)
    sys.exit(code)


def _run(given: Sequence[str]) -> tuple[int, str]:
    """The status of a command, and what there is to tell at its end."""
    try:
        with stop.caught():
            return int(cli.main([*given], prog_name="dfa-bench", standalone_mode=False) or 0), ""
    except click.UsageError as mistake:
        sentence = mistake.format_message()
        end = "" if sentence.endswith((".", "?")) else "."
        command = mistake.ctx.command_path if mistake.ctx else "dfa-bench"
        return 2, f"Error: {sentence}{end} See `{command} --help`."
    except UserError as error:
        return 2, f"Error: {error}"
    except Exception:
        if stop.raised is None:
            raise
        return 1, ""
    except click.Abort as abort:  # what Click makes of a KeyboardInterrupt, in a command that keeps nothing by itself
        cause = abort.__cause__ if isinstance(abort.__cause__, Preempted) else Preempted(SIGINT)
        return cause.status, str(cause)
