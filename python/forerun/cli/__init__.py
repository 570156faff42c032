"""The `forerun` command. One module per subcommand; `run` turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import forerun
from forerun.cli import (
    bench,
    chat,
    compare,
    convert_draft,
    datastore,
    doctor,
    generate,
    inspect,
    layers,
    methods,
    plan,
    pull,
    train,
    tree,
)
from forerun.cli.common import fail

# typer hands out click's exceptions only through its own subclasses of them.
_UsageError = typer.BadParameter.__bases__[0]
_ClickException = _UsageError.__bases__[0]

app = typer.Typer(
    name="forerun",
    help="Speculative decoding that never changes the text.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    generate.generate,
    chat.chat,
    inspect.inspect,
    pull.pull,
    methods.methods,
    bench.bench,
    compare.compare,
    plan.plan,
    tree.tree,
    convert_draft.convert_draft,
    layers.layers,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(datastore.app)
app.add_typer(train.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forerun {forerun.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0, 1 failed, 2 wrong usage, 130 interrupted.

    An error is one line on stderr, never a traceback (set FORERUN_DEBUG=1 to see it).
    """
    try:
        code = app(
            args=list(arguments) if arguments is not None else None,
            prog_name="forerun",
            standalone_mode=False,
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        return _unread()
    except SystemExit as ended:  # click makes one of a broken pipe
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return _unread()
    except _ClickException as error:
        message = error.format_message()
        return fail(message, error.exit_code) if message else error.exit_code
    except ValueError as error:
        return fail(error, 2)
    except MemoryError as error:
        return fail(str(error) or "out of memory", 1)
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error, 1)
    except (forerun.ModelFileError, NotImplementedError, RuntimeError, ImportError) as error:
        return fail(error, 1)


def _unread() -> int:
    """The reader of our output has gone, for example `head`: what is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    return 141


def main() -> None:
    _open_streams()
    sys.exit(run())


def _open_streams() -> None:
    """A standard stream that the caller closed, as `>&-` does, is empty, and swallows what is written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
