"""The option `--gateway-settings`: what an administrator says for the gateways of all sandboxes, from a file."""

from pathlib import Path
from typing import Any

import click

from claude_sandbox.backends.docker.gateway.settings import GatewaySettingsError, gateway_settings


def gateway_settings_file(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """The file's sections; None where the option was not given. Raises click.BadParameter for a file that is wrong."""
    if not value:
        return None
    try:
        return gateway_settings(Path(value).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value} can't be read ({type(error).__name__})") from None
    except GatewaySettingsError as error:
        raise click.BadParameter(f"{value}: {error}") from None
