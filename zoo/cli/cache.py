# SPDX-License-Identifier: Apache-2.0
"""``zoo cache``."""

from __future__ import annotations

import time

import click

from zoo.cli.common import emit_json, human_size, json_option

_DAY = 86400.0


@click.command("cache")
@click.option("--clear", is_flag=True, help="Delete the recordings. Always safe: they are made again.")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Only what was not used for so long.",
)
@json_option
def cache_command(clear: bool, days: float | None, as_json: bool) -> None:
    """Show what INT8 calibration has recorded on this machine, or delete it.

    The last line is the folder.

    Example: zoo cache --clear --older-than 30
    """
    from zoo import store
    from zoo.errors import ZooError

    folder = store.recordings()
    limit = None if days is None else time.time() - days * _DAY
    count = size = 0
    try:
        # .tmp: what a killed export left
        for path in sorted((*folder.glob("*.hist"), *folder.glob("*.tmp"))):
            try:
                about = path.stat()
            except FileNotFoundError:
                continue  # another process was faster
            if limit is not None and about.st_mtime > limit:
                continue
            count, size = count + 1, size + about.st_size
            if clear:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ZooError(f"{error.filename} cannot be deleted: {error.strerror}") from error
    if as_json:
        emit_json({"folder": str(folder), "files": count, "size": size, "cleared": clear})
        return
    click.echo(f"{'deleted ' if clear else ''}{count} recordings, {human_size(size)}")
    click.echo(str(folder))
