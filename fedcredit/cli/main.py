"""``fedcredit``: the entry point and the list of commands."""

from __future__ import annotations

import os
from importlib import import_module

import click

from fedcredit import __version__
from fedcredit.cli.failures import report_failures

__all__ = ["COMMANDS", "cli", "main"]

#: Command name to ``module:object``; a module is imported when its command runs.
COMMANDS: dict[str, str] = {
    "align": "fedcredit.cli.align:align",
    "audit": "fedcredit.cli.audit:audit",
    "catalog": "fedcredit.cli.catalog:catalog",
    "certs": "fedcredit.cli.certs:certs",
    "completion": "fedcredit.cli.completion:completion",
    "consent": "fedcredit.cli.consent:consent",
    "demo": "fedcredit.cli.demo:demo",
    "hub": "fedcredit.cli.hub:hub",
    "init": "fedcredit.cli.init:init",
    "institution": "fedcredit.cli.institution:institution",
    "party": "fedcredit.cli.party:party",
    "predict": "fedcredit.cli.predict:predict",
    "registry": "fedcredit.cli.registry:registry",
    "score": "fedcredit.cli.score:score",
    "scorecard": "fedcredit.cli.scorecard:scorecard",
    "serve": "fedcredit.cli.serve:serve",
    "status": "fedcredit.cli.status:status",
    "train": "fedcredit.cli.train:train",
    "usage": "fedcredit.cli.usage:usage",
    "verify": "fedcredit.cli.verify:verify",
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an expected failure becomes one line and an exit code."""
        with report_failures(ctx, debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  fedcredit init pilot --platform loans.parquet --label default \\
      --provider tax=tax.parquet --provider social=social.csv
  fedcredit hub start pilot/platform/platform.toml
  fedcredit party start pilot/tax/tax.toml
  fedcredit status pilot/platform/platform.toml

\b
Exit codes: 0 done, 1 unexpected failure, 2 usage, configuration or data, 3 refused by a policy
or protocol, 4 a party or the hub is away, 5 a certificate or signature does not check.
""",
)
@click.version_option(__version__, prog_name="fedcredit")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def cli(debug: bool) -> None:
    """Train credit models jointly with data that stays where it is."""


def main() -> None:
    """Run the command line."""
    # gRPC logs every refused handshake on standard error; the errors shown here say it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    cli(prog_name="fedcredit")
