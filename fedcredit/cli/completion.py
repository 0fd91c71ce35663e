"""``fedcredit completion``: shell completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command(
    epilog="""\b
Examples:
  eval "$(fedcredit completion bash)"
  fedcredit completion zsh > ~/.zfunc/_fedcredit
  fedcredit completion fish > ~/.config/fish/completions/fedcredit.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None  # the three shells that click knows
    script = kind(ctx.find_root().command, {}, "fedcredit", "_FEDCREDIT_COMPLETE")
    click.echo(script.source_template % script.source_vars())
