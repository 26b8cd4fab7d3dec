"""The types of settings: what each accepts, and the form in which the application gets it."""

import re
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, SecretStr, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.settings.limits import parse_limits, refuse_malformed


def _postgres_url(url: SecretStr) -> SecretStr:
    scheme, _, rest = url.get_secret_value().partition("://")
    normalized = f"postgresql+psycopg2://{rest}"
    try:
        known = scheme in {"postgres", "postgresql", "postgresql+psycopg2"} and make_url(normalized).database
    except (ArgumentError, ValueError):  # a port that is no number is the second
        known = False
    if not known:
        raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host/database")
    return SecretStr(normalized)


def _base_url(value: str) -> str:
    """Return the URL as Better Auth writes it into `iss` and `aud`: a host in lower case, no default port or slash."""
    try:
        url = HttpUrl(value)
    except ValidationError:
        raise ValueError("must be a URL such as https://auth.example.com") from None
    base = str(url).rstrip("/")
    if url.username or url.password or url.query is not None or url.fragment is not None:
        raise ValueError("must be a URL without credentials, query and fragment")
    if "/api/auth/" in f"{base}/":
        raise ValueError("leave /api/auth off: BETTER_AUTH_JWKS_PATH adds it")
    return base


PATH = re.compile(r"/(?!/)(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")  # RFC 3986, 3.3


def _url_path(path: str) -> str:
    if not PATH.fullmatch(path) or ".." in path.split("/"):
        raise ValueError("must be a path such as /api/auth/jwks, without `..`, spaces, query and fragment")
    return path


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_origin(origin) for origin in origins)


ORIGIN = re.compile(r"https?://[^/\\?#@*%\s]+", re.IGNORECASE)
OTHER_ORIGIN = re.compile(
    r"(?!(?:https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*://[\w-]+(?:\.[\w-]+)*(?::\d{1,5})?|null", re.ASCII
)


def _origin(value: str) -> str:
    """Return the origin as browsers send it: lower case, no default port, Punycode (https://url.spec.whatwg.org/#origin).

    Those of applications in a web view and of extensions are kept as they are: their hosts are opaque.
    """
    if OTHER_ORIGIN.fullmatch(value):
        return value
    url = None
    with suppress(ValidationError):
        url = HttpUrl(value)
    if not (url and url.host and all(url.host.split(".")) and ORIGIN.fullmatch(value)):
        raise ValueError(
            "each must be an origin such as https://app.example.com, tauri://localhost or null (of file://): "
            "no path, no wildcard, no final dot"
        )
    return str(url).removesuffix("/")


def _limits(text: str) -> str:
    parse_limits(text)
    return text


def _storage_uri(uri: SecretStr) -> SecretStr:
    refuse_malformed(uri.get_secret_value())
    return uri


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
Limits = Annotated[str, AfterValidator(_limits)]
StorageUri = Annotated[SecretStr, AfterValidator(_storage_uri)]
Origins = Annotated[tuple[str, ...], AfterValidator(_origins)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
UrlPath = Annotated[str, AfterValidator(_url_path)]


def http_url(url: str) -> str:
    """Return the URL.

    Raises:
        ValueError: it is not one of http or https with a host.

    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("must be a URL such as http://localhost:4318")
    return url


ReceiverUrl = Annotated[str, AfterValidator(http_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Protocol = Literal["http/json", "http/protobuf"]
Network = IPv4Network | IPv6Network
ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def parse_network(text: str) -> Network:
    """Return the network, or the address as one.

    Raises:
        ValueError: it is none, or an address within it.

    """
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError("a network has host bits set: write such as 10.0.0.0/8, not 10.0.0.5/8") from None
        raise ValueError("must be addresses or networks such as 10.0.0.7,10.0.0.0/8, or * alone") from None


def _networks(value: object) -> object:
    if not isinstance(value, list):
        return value
    return ANYWHERE if value == ["*"] else tuple(map(parse_network, value))


Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


def parse_headers(headers: str) -> dict[str, str]:
    """Return the headers of `name=value,name=value`, values percent-encoded (OTEL_EXPORTER_OTLP_HEADERS)."""
    pairs = [part.partition("=") for part in headers.split(",") if part.strip()]
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")  # RFC 3986, 2.3 and 3.3: no segment that means another
MAX_PREFIX = 256
OWN_PATHS = {"docs", "health", "metrics", "openapi.json"}


def parse_prefix(text: str) -> str:
    """Return the path prefix.

    Raises:
        ValueError: it is none, or the application's own.

    """
    if len(text) > MAX_PREFIX or not PREFIX.fullmatch(text):
        raise ValueError("must be a path such as /task-service: letters, digits or -._~, and no / at its end")
    if text == "/api" or text.split("/")[1] in OWN_PATHS:
        raise ValueError("is a path of the application: a proxy that serves it as it is needs no prefix")
    return text


RootPath = Annotated[str, AfterValidator(parse_prefix)]

FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1
FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
MAX_FIELD_NAMES = 50


def _field_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if any("*" in name for name in names):
        raise ValueError("`*` does not cover Authorization: name each header")
    if len(names) > MAX_FIELD_NAMES or not all(map(FIELD_NAME.fullmatch, names)):
        raise ValueError(f"must be at most {MAX_FIELD_NAMES} names of headers such as X-Team, separated by commas")
    return names


def _otlp_headers(headers: SecretStr) -> SecretStr:
    parsed = parse_headers(headers.get_secret_value())
    if not all(FIELD_NAME.fullmatch(name) and FIELD_VALUE.fullmatch(value) for name, value in parsed.items()):
        raise ValueError("must be name=value pairs, separated by commas")
    return headers


FieldNames = Annotated[tuple[str, ...], AfterValidator(_field_names)]
OtlpHeaders = Annotated[SecretStr, AfterValidator(_otlp_headers)]
