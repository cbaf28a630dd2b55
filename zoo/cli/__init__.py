# SPDX-License-Identifier: Apache-2.0
"""The ``zoo`` command. Thin: parse, call the library, format. Each command's module is imported on use."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from zoo.errors import ZooError

#: command -> (module here, short help); the help stands here so that ``zoo --help`` imports no command.
_COMMANDS = {
    "list": ("catalog", "List the models, with weights, licence and figures."),
    "info": ("catalog", "Show one model's card."),
    "targets": ("catalog", "List the export targets and their precisions."),
    "doctor": ("doctor", "Tell what this machine can run, and why not."),
    "export": ("export", "Build a verified bundle for a target and a precision."),
    "build": ("build", "Finish a recipe bundle on the device that runs it."),
    "run": ("run", "Run a model on inputs."),
    "plot": ("plot", "Draw a model's curves over a file as PNG."),
    "selftest": ("check", "Run a bundle's golden inputs and compare."),
    "inspect": ("check", "Show a bundle's manifest, or where each node runs."),
    "diff": ("diff", "Find where two bundles, or a bundle and its reference, part."),
    "tune": ("tune", "Choose a bundle's threads and batch by measuring here."),
    "eval": ("evaluate", "Score a bundle on a labelled data set."),
    "bench": ("bench", "Measure bundles under the zoo's protocol."),
    "train": ("train", "Train a model on its data set."),
    "convert": ("train", "Convert an official checkpoint."),
    "cache": ("cache", "Show or clear what calibration has recorded."),
}


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        # click declares it on the class, but reads it from the raised instance.
        self.__dict__["exit_code"] = exit_code

    def show(self, file: Any = None) -> None:
        click.echo(f"zoo: {self.format_message()}", err=True)


class _Zoo(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"zoo.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, KeyboardInterrupt):
            raise
        except BrokenPipeError:
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ZooError):
                raise _Failure(str(error), error.exit_code) from error
            missing = isinstance(error, ModuleNotFoundError) and _extra_for(error.name or "")
            if missing:
                message = f"this command needs {error.name}: pip install 'affect-zoo[{missing}]'"  # type: ignore[attr-defined]
                raise _Failure(message, 5) from error
            raise _Failure(
                f"internal error: {type(error).__name__}: {error}. Run again with zoo --debug for the traceback",
                1,
            ) from error


def _extra_for(module: str) -> str | None:
    return {
        "torch": "export",
        "onnx": "export",
        "onnxscript": "export",
        "safetensors": "export",
        "h5py": "export",
        "av": "media",
        "matplotlib": "plot",
        "openvino": "openvino",
        "tensorrt": "tensorrt",
        "tensorrt_rtx": "tensorrt-rtx",
    }.get(module.partition(".")[0])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"zoo {version('affect-zoo')}")
        ctx.exit()


@click.group(
    cls=_Zoo,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 bad input or data, 4 bundle refused, 5 provider missing, "
    "6 a check did not pass. Results go to stdout, progress and errors to stderr.",
)
@click.option("--debug", is_flag=True, envvar="ZOO_DEBUG", help="Show tracebacks.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
def cli(debug: bool) -> None:
    """Affective-computing models that are exported, verified, measured and embedded.

    Example: zoo run tim-net-emodb clip.wav
    """


def main() -> None:
    """Entry point of the ``zoo`` script."""
    try:
        cli(prog_name="zoo")
    except BrokenPipeError:
        # The reader (head, say) has gone: not an error. Stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
