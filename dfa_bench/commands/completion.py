"""`dfa-bench completion`: the script that makes a shell complete commands, options, tables and Hydra overrides."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dfa_bench.commands.grammar import Command

VARIABLE = "_DFA_BENCH_COMPLETE"  # Click's name for a program called dfa-bench
NO_SPACE = "[[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace"  # a value or a part of a key follows


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    eval "$(dfa-bench completion bash)"
    dfa-bench completion fish > ~/.config/fish/completions/dfa-bench.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print a script that completes commands, options, tables and, after `dfa-bench run`, Hydra's groups and settings.

    Put the line of the first example into ~/.bashrc, or the same for zsh into ~/.zshrc.
    """
    shell_class = get_completion_class(shell)
    assert shell_class is not None
    script = shell_class(ctx.find_root().command, {}, "dfa-bench", VARIABLE).source()
    print(script.replace("    return 0", f"    {NO_SPACE}\n    return 0") if shell == "bash" else script)
    return 0
