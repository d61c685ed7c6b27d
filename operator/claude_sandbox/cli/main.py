"""The command `claude-sandbox`."""

import contextlib
import errno
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from claude_sandbox.cli.exits import Exit, codes_of, described
from claude_sandbox.localcluster.errors import LocalClusterError


@dataclass(frozen=True)
class Entry:
    """A subcommand: where its click command is (`module:attribute`), and the line that the help shows for it."""

    target: str
    summary: str

    def load(self) -> click.Command:
        """The command itself, importing what it needs."""
        module, _, attribute = self.target.partition(":")
        if module not in sys.modules:
            with _uncollected():
                importlib.import_module(module)
        command: click.Command = getattr(sys.modules[module], attribute)
        return command


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    # What modules make stays as long as the process. To look through it for garbage, again and again while it grows
    # and then with each full collection of an operator that runs for weeks, finds nothing.
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# One line for each subcommand. A module is imported when its command is used, so `--help` stays quick.
COMMANDS = {
    "run": Entry(
        "claude_sandbox.cli.operator.command:run", "Run the operator: it looks after a cluster's ClaudeSandboxes."
    ),
    "check": Entry(
        "claude_sandbox.cli.check.command:check", "Measure any container or pod; the exit code gates a pipeline."
    ),
    "report": Entry(
        "claude_sandbox.cli.report.command:report", "What was measured of sandboxes, as a report in many formats."
    ),
    "due": Entry("claude_sandbox.cli.due:due", "What of sandboxes is due to be renewed, or ends, sorted by date."),
    "audit": Entry(
        "claude_sandbox.cli.audit.command:audit", "What sandboxes asked their gateway for, and what it let through."
    ),
    "usage": Entry(
        "claude_sandbox.cli.usage.command:usage", "What sandboxes have used of the model, and of their budgets."
    ),
    "trail": Entry(
        "claude_sandbox.cli.trail.command:trail", "What happened to sandboxes: the audit trail, read and verified."
    ),
    "shell": Entry("claude_sandbox.cli.work.shell:shell", "A shell in a sandbox, or one command."),
    "resume": Entry("claude_sandbox.cli.work.resume:resume", "Have a suspended sandbox run again."),
    "incident": Entry(
        "claude_sandbox.cli.incident.command:incident", "Contain a sandbox, keep the evidence, and lift that again."
    ),
    "backup": Entry(
        "claude_sandbox.cli.backups.backup:backup", "Back up a sandbox's workspace, verified by restoring it."
    ),
    "restore": Entry("claude_sandbox.cli.backups.restore:restore", "Make a sandbox from a backup."),
    "cp": Entry("claude_sandbox.cli.work.cp:cp", "Copy files into a sandbox, or out of one."),
    "logs": Entry("claude_sandbox.cli.work.logs:logs", "What a sandbox's agent has written."),
    "diff": Entry("claude_sandbox.cli.work.diff:diff", "What the agent changed in its repository."),
    "completion": Entry("claude_sandbox.cli.completion:completion", "Complete command lines in your shell."),
    "demo": Entry("claude_sandbox.cli.demo:demo", "See everything at work: a cluster, the operator, a sandbox in it."),
    "install": Entry(
        "claude_sandbox.cli.install:install", "Install the operator into a cluster, with the least rights."
    ),
    "cluster": Entry(
        "claude_sandbox.cli.local.cluster:cluster", "Run a Kubernetes cluster of your own on this machine."
    ),
    "machine": Entry(
        "claude_sandbox.cli.machine:machine", "Run sandboxes on this Docker machine for good, by systemd."
    ),
    "engine": Entry("claude_sandbox.cli.local.engine:engine", "Run a Docker Engine of your own on this machine."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else described(entry.load(), cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # A group's own would import every command to ask whether it is hidden.
        names = (name for name in self.list_commands(ctx) if name.startswith(incomplete))
        found = [CompletionItem(name, help=COMMANDS[name].summary) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Who reads has enough. What is still to be flushed at the end has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(Exit.PIPE_CLOSED)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            sys.exit(Exit.INTERRUPTED)
        except OSError as error:
            if error.errno not in _ENVIRONMENT:
                raise
            where = error.filename or "The output"
            click.echo(f"Error: {where} can't be written: {error.strerror}.\nRemedy: {_WRITABLE}", err=True)
            codes = codes_of(ctx.invoked_subcommand or "")
            sys.exit(Exit.UNREADABLE if Exit.UNREADABLE in codes else Exit.FAILED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="claude-sandbox-operator", prog_name="claude-sandbox")
def cli() -> None:
    """Run Claude Code agents in hardened, isolated and measured sandboxes.

    \b
    Exit codes: 0 it was done, 1 it could not be done (the message says why and what to do), or what was read is
    wrong, 2 the command line is wrong, 4 what was asked for could not be read. Each command's help has its own.
    """


def main() -> None:
    """The entry point of the installed command."""
    run("claude-sandbox")


def run(name: str) -> None:
    """Do what the command line says; `name`: how the user called it, for the help."""
    try:
        cli(prog_name=name)
    except LocalClusterError as error:
        _fail(error.message, error.remedy)


# What the machine and not the program is to blame for.
_ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
_WRITABLE = "Make room there, or give this user the right to write there, and try again."


def _fail(message: str, remedy: str) -> NoReturn:
    click.echo(f"Error: {message}\nRemedy: {remedy}", err=True)
    sys.exit(Exit.FAILED)


if __name__ == "__main__":
    main()
