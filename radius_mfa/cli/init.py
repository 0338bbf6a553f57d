"""``radius-mfa init``: a configuration file, a data folder and a key ring."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import tomlkit
import typer

from radius_mfa.app import prepare_data_folder
from radius_mfa.cli.common import output, write_private
from radius_mfa.config import DEFAULT_DATA_FOLDER, Settings
from radius_mfa.errors import ConfigurationError
from radius_mfa.stores import keyring


def init(
    ctx: typer.Context,
    data_folder: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", readable=False, help="Where Redis, database and key ring shall live."
        ),
    ] = DEFAULT_DATA_FOLDER,
) -> None:
    """Write a commented configuration file, and make the data folder and the key ring."""
    path: Path = ctx.obj
    folder = data_folder.expanduser().absolute()
    prepare_data_folder(folder)
    write_private(path, configuration_text({"data_folder": str(folder)}))
    output.print(f"Wrote the configuration {path}")
    make_key_ring(folder)
    output.print(
        "Next: radius-mfa client add NAME ADDRESS, radius-mfa user add NAME, radius-mfa serve"
    )


def make_key_ring(folder: Path) -> None:
    """Make the key ring in *folder*, unless there is one: it may be all that opens a database."""
    path = Settings(data_folder=folder).key_ring_file
    try:
        keyring.create(path)
    except FileExistsError:
        output.print(f"Kept the key ring   {path}")
    except OSError as error:
        raise ConfigurationError(
            f"the key ring {path} can't be written: {error.strerror}"
        ) from None
    else:
        output.print(f"Made the key ring   {path} (back it up, apart from the database)")


def configuration_text(top: dict[str, str]) -> str:
    """Return the commented default configuration with *top* level settings put in."""
    document = tomlkit.parse(default_text())
    for name, value in top.items():
        document[name] = value
    return tomlkit.dumps(document)


def default_text() -> str:
    """Return the commented default configuration."""
    installed = resources.files("radius_mfa") / "config_files" / "radius-mfa.toml"
    if installed.is_file():
        return installed.read_text("utf-8")
    checkout = Path(__file__).parents[2] / "config" / "radius-mfa.toml"
    return checkout.read_text("utf-8")
