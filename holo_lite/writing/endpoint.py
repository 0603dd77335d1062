"""Where a language model answers: an address of the OpenAI kind, the model's name, and the key.

The key is in no message and in no `repr`. A loopback address is asked directly, whatever proxies are set: what is
said to this machine stays on it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from holo_lite.errors import SettingsError

USUAL_PATH = "/v1"  # where servers of this kind answer
CALLED = "/chat/completions"  # what people paste with the address
PLAIN = re.compile(r"[\x21-\x7e]+")
LONGEST_URL, LONGEST_NAME = 1000, 500  # characters
EXAMPLE = "http://127.0.0.1:8080/v1"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint; `llm` is the name of its model (None: the only one it has), `key` what it asks for, or nothing.

    The address is mended where it is clear what is meant: without a path, or with that of a call.

    Raises:
        SettingsError: no such address or key can be.
    """

    url: str
    llm: str | None = None
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _address(self.url))
        object.__setattr__(self, "key", self.key.strip())
        if self.key and not PLAIN.fullmatch(self.key):
            raise SettingsError("the endpoint's key holds a space or a character that no key has; copy it again")
        if self.llm is not None and not (self.llm.strip() and len(self.llm) <= LONGEST_NAME):
            raise SettingsError(f"--llm: give the name of a model, of at most {LONGEST_NAME} characters")

    @property
    def proxy(self) -> str:
        """The proxy that the environment has for it, or nothing."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if is_loopback(host) or proxy_bypass(host):
            return ""
        proxies = getproxies()
        return proxies.get(parts.scheme) or proxies.get("all") or ""

    @property
    def route(self) -> str:
        """The address, and what a person should know of the way to it."""
        parts = urlsplit(self.url)
        said = self.url
        if self.proxy:
            said += f" through the proxy {_without_password(self.proxy)}"
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            said += " (not encrypted)"
        return said

    def without_key(self, text: str) -> str:
        """A text with the key taken out: a server may repeat what it was sent."""
        return text.replace(self.key, "…") if self.key else text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number alone."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(text: str) -> str:
    """The address as it is used. Raises `SettingsError`, which never shows a password."""
    wanted = f"write it like {EXAMPLE}"
    text = text.strip()
    if not PLAIN.fullmatch(text) or len(text) > LONGEST_URL:
        raise SettingsError(f"the endpoint is empty, or not an address; {wanted}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"the endpoint is not an address; {wanted}") from None
    if "@" in parts.netloc:
        raise SettingsError(f"the endpoint holds a name or password; {wanted}, and give the key by itself")
    if parts.scheme not in {"http", "https"} or not host:
        raise SettingsError(f"endpoint '{text[:60]}': it is not an address of http or https; {wanted}")
    if parts.query or parts.fragment:
        raise SettingsError(f"endpoint '{parts.scheme}://{parts.netloc}…': it holds '?' or '#'; {wanted}")
    return _with_path(parts)


def _with_path(parts: SplitResult) -> str:
    path = parts.path.rstrip("/").removesuffix(CALLED).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or USUAL_PATH}"


def _without_password(proxy: str) -> str:
    """A proxy's address without a name and password."""
    head, _, rest = proxy.rpartition("@")
    return f"{head.partition('//')[0]}//{rest}" if head and "//" in head else rest
