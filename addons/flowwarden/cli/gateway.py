"""flowwarden run, init, demo."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import sysconfig
from pathlib import Path

import click

from ..errors import ConfigError

_SHIPPED = ("mitm.conf", "rules")


@click.command()
@click.option(
    "--conf", type=click.Path(dir_okay=False, path_type=Path), help="mitm.conf to read.  [default: mitm.conf]"
)
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Overrides an option of mitm.conf.")
@click.option("--web", is_flag=True, help="Shows the flows in mitmweb, read-only.")
@click.option("--sandbox-host", metavar="HOST", help="A host other than loopback that warden_sandbox may name.")
def run(conf: Path | None, sets: tuple[str, ...], web: bool, sandbox_host: str | None) -> None:
    """The gateway. Stops on SIGTERM when the calls under way have ended; a second signal stops it at once."""
    from ..run import run as serve

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log that is read while the gateway runs
    if wrong := [each for each in sets if "=" not in each]:
        raise ConfigError(f"--set {wrong[0]!r} is not NAME=VALUE")
    if sandbox_host:
        sets = (*sets, f"warden_sandbox_host={sandbox_host}")
    if conf is None:
        conf = Path("mitm.conf")
    raise SystemExit(asyncio.run(serve(conf, sets, web=web, announce=click.echo)))


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Writes mitm.conf and rules/ to start from into a folder that has neither."""
    source = shipped()
    for name in _SHIPPED:
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} exists already", "Choose another folder, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "mitm.conf", folder / "mitm.conf")
    shutil.copytree(source / "rules", folder / "rules")
    there = "" if folder == Path(".") else f" in {folder}"
    click.echo(
        f"{folder / 'mitm.conf'} and {folder / 'rules'} are there. "
        f"Put your issuer and roles into {folder / 'rules' / 'identity.yaml'}, then{there}: flowwarden run"
    )


def shipped() -> Path:
    """Where mitm.conf and rules/ lie: beside the package in a checkout, in share/flowwarden where it was installed."""
    installed = (sysconfig.get_path("data"), sysconfig.get_path("data", sysconfig.get_preferred_scheme("user")))
    for place in (Path(__file__).parents[3], *(Path(each) / "share" / "flowwarden" for each in installed)):
        if (place / "mitm.conf").is_file() and (place / "rules").is_dir():
            return place
    raise ConfigError("the files to start from are not installed", "Run it from a checkout of flowwarden")


@click.command()
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep state and recordings in this folder."
)
def demo(keep: Path | None) -> None:
    """The whole path against a local AWS (moto) and a local OIDC issuer; prints what happened."""
    try:
        from ..demo import main
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo needs {error.name}", "In a checkout: make demo, or pip install '.[demo]'"
        ) from None
    raise SystemExit(main(keep))


COMMANDS = (run, init, demo)
