"""The endpoint of a language model as options: its address and model, and its key, which nobody types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from holo_lite.commands.helping import option
from holo_lite.commands.options import options
from holo_lite.commands.telling import note
from holo_lite.errors import SettingsError

if TYPE_CHECKING:
    from holo_lite.writing.endpoint import Endpoint

# The same for every command that asks an endpoint; click knows each command's own ones besides.
URL_VARIABLE, LLM_VARIABLE = "HOLO_LITE_WRITE_ENDPOINT", "HOLO_LITE_WRITE_LLM"
KEY_VARIABLE = "HOLO_LITE_WRITE_KEY"


def read_key(context: click.Context, parameter: click.Parameter, key: str | None) -> str | None:
    """The key, from the environment or the file. Raises `SettingsError` for one that is typed."""
    if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
        raise SettingsError(
            f"--key: other users of this machine could read it; set {KEY_VARIABLE}, or key in the config file"
        )
    return key


endpoint_options = options(
    option(
        "--endpoint",
        metavar="URL",
        envvar=URL_VARIABLE,
        help="Address of an OpenAI-compatible server, such as http://127.0.0.1:8080/v1.",
    ),
    option("--llm", metavar="NAME", envvar=LLM_VARIABLE, help="Its model.  [default: the only one it has]"),
    option("--key", hidden=True, hide_input=True, envvar=KEY_VARIABLE, callback=read_key, help="Its key."),
)


def given_endpoint(context: click.Context, url: str | None, llm: str | None, key: str | None) -> Endpoint:
    """The endpoint that is meant. Raises `SettingsError` for none."""
    from holo_lite.commands.defaults import config_file
    from holo_lite.writing.endpoint import Endpoint

    if url is None:
        raise SettingsError(
            "no endpoint is named: start one, such as `llama-server -m MODEL.gguf`, and give --endpoint "
            f"http://127.0.0.1:8080/v1 (Ollama: port 11434), or {URL_VARIABLE}, or endpoint in {config_file()}"
        )
    endpoint = Endpoint(url, llm, key or "")
    if _is_meant(context, endpoint):
        return endpoint
    note("note: the key in the config file is for another address, and is not sent")
    return Endpoint(url, llm)


def _is_meant(context: click.Context, endpoint: Endpoint) -> bool:
    """Whether the key is this endpoint's: one in the file is not given to another address than the file's."""
    from holo_lite.writing.endpoint import Endpoint

    if context.get_parameter_source("key") is not ParameterSource.DEFAULT_MAP:
        return True
    named: Any = context.lookup_default("endpoint")
    return named is None or Endpoint(str(named)).url == endpoint.url
