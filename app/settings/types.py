"""The types of settings: what each accepts, and the form in which the application gets it.

A `parse_` function raises ValueError for what is refused. No message holds the value, which may be a secret.
"""

import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, BeforeValidator, Field, FilePath, HttpUrl, SecretStr, ValidationError
from pydantic_settings import NoDecode
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: an HS256 key is at least as long as the hash
BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")  # RFC 6750, 2.1
PATH = re.compile(r"/(?!/)(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")  # RFC 3986, 3.3
PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")  # RFC 3986, 2.3 and 3.3: no segment that means another
MAX_PREFIX = 256
OWN_PATHS = {"docs", "health", "metrics", "openapi.json"}
ORIGIN = re.compile(r"https?://[^/\\?#@*%\s]+", re.IGNORECASE)
OTHER_ORIGIN = re.compile(
    r"(?!(?:https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*://[\w-]+(?:\.[\w-]+)*(?::\d{1,5})?|null", re.ASCII
)
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1
FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
MAX_FIELD_NAMES = 50
MAX_AMOUNT = 10**9  # an RFC 9651 integer has 15 digits
MAX_WINDOW_S = 366 * 24 * 3600
ZERO = re.compile(r"(?<!\d)0")  # `limits` also takes 100/0minute, for 100/minute
MEMORY = "memory://"
REDIS_PATHS = {"redis": r"/?\d*", "rediss": r"/?\d*", "redis+unix": "/.+"}

Network = IPv4Network | IPv6Network
ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def split(value: object) -> object:
    """Return the parts of a text that commas separate."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def parse_postgres_url(url: SecretStr) -> SecretStr:
    """Return the URL as SQLAlchemy wants it for psycopg2."""
    scheme, _, rest = url.get_secret_value().partition("://")
    normalized = f"postgresql+psycopg2://{rest}"
    with suppress(ArgumentError, ValueError):  # a port that is no number is the second
        if scheme in {"postgres", "postgresql", "postgresql+psycopg2"} and make_url(normalized).database:
            return SecretStr(normalized)
    raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host/database")


def parse_secret(secret: SecretStr) -> SecretStr:
    """Return the secret, which is long enough for HS256."""
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes; `openssl rand -base64 32` makes one")
    return secret


def parse_token(token: SecretStr) -> SecretStr:
    """Return the token, which a header can hold."""
    if not BEARER_TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError("must be at least 16 letters, digits or -._~+/; `openssl rand -hex 32` makes one")
    return token


def parse_base_url(value: str) -> str:
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


def parse_path(path: str) -> str:
    """Return the path of a URL."""
    if not PATH.fullmatch(path) or ".." in path.split("/"):
        raise ValueError("must be a path such as /api/auth/jwks, without `..`, spaces, query and fragment")
    return path


def parse_prefix(text: str) -> str:
    """Return the path prefix, which is none of the application's own paths."""
    if len(text) > MAX_PREFIX or not PREFIX.fullmatch(text):
        raise ValueError("must be a path such as /task-service: letters, digits or -._~, and no / at its end")
    if text == "/api" or text.split("/")[1] in OWN_PATHS:
        raise ValueError("is one of the application's own paths: leave ROOT_PATH empty unless the proxy adds a prefix")
    return text


def parse_origin(value: str) -> str:
    """Return the origin as browsers send it: lower case, no default port, Punycode (https://url.spec.whatwg.org/#origin).

    Origins of web views and extensions stay as they are: their hosts are opaque.
    """
    if OTHER_ORIGIN.fullmatch(value):
        return value
    with suppress(ValidationError):
        url = HttpUrl(value)
        if ORIGIN.fullmatch(value) and url.host and all(url.host.split(".")):
            return str(url).removesuffix("/")
    raise ValueError(
        "each must be an origin such as https://app.example.com, tauri://localhost or null (of file://): "
        "no path, no wildcard, no final dot"
    )


def parse_field_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of request headers."""
    if any("*" in name for name in names):
        raise ValueError("`*` does not cover Authorization: name each header")
    if len(names) > MAX_FIELD_NAMES or not all(map(FIELD_NAME.fullmatch, names)):
        raise ValueError(f"must be at most {MAX_FIELD_NAMES} names of headers such as X-Team, separated by commas")
    return names


def parse_headers(secret: SecretStr) -> dict[str, str]:
    """Return the headers of `name=value,name=value`, values percent-encoded (OTEL_EXPORTER_OTLP_HEADERS)."""
    pairs = [part.partition("=") for part in secret.get_secret_value().split(",") if part.strip()]
    headers = {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
    if not all(FIELD_NAME.fullmatch(name) and FIELD_VALUE.fullmatch(value) for name, value in headers.items()):
        raise ValueError("must be name=value pairs, separated by commas")
    return headers


def parse_network(text: Any) -> Network:
    """Return the network, or the address as one."""
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError("a network has host bits set: write such as 10.0.0.0/8, not 10.0.0.5/8") from None
        raise ValueError("must be addresses or networks such as 10.0.0.7,10.0.0.0/8, or * alone") from None


def parse_networks(parts: Sequence[Any]) -> tuple[Network, ...]:
    """Return the networks; `*` is every one."""
    return ANYWHERE if [*parts] == ["*"] else tuple(map(parse_network, parts))


def parse_limits(text: str) -> tuple[RateLimitItem, ...]:
    """Return the rate limits that `text` names, the shortest window first."""
    try:
        limits = sorted(parse_many(text), key=RateLimitItem.get_expiry)
    except ValueError:
        raise ValueError(
            "must be limits such as 100/minute or 10/second;1000/hour (second, minute, hour, day, month, year)"
        ) from None
    windows = {limit.get_expiry() for limit in limits}
    if len(windows) < len(limits):
        raise ValueError("two limits have the same window")
    if ZERO.search(text) or max(limit.amount for limit in limits) > MAX_AMOUNT or max(windows) > MAX_WINDOW_S:
        raise ValueError(f"each limit must allow 1 to {MAX_AMOUNT} requests in at most a year")
    return tuple(limits)


def parse_storage(secret: SecretStr) -> SecretStr:
    """Return the address of the memory or of a Redis; connect to nothing."""
    uri = secret.get_secret_value()
    with suppress(Exception):  # ValueError, KeyError, TypeError for unknown options, RedisError for bad ones
        if uri == MEMORY or is_redis(uri):
            return secret
    raise ValueError(
        "must be memory://, redis[s]://[user:password@]host[:port][/database] or redis+unix:///path/to/socket;"
        " percent-encode what is special in a password"
    )


def is_redis(uri: str) -> bool:
    """Tell whether redis-py would connect to what `uri` says: it takes a bad database for 0, no host for localhost."""
    url = urlsplit(uri)
    if not re.fullmatch(REDIS_PATHS[url.scheme], url.path) or bool(url.hostname) == (url.scheme == "redis+unix"):
        return False
    from redis import ConnectionPool  # noqa: PLC0415  takes 0.3 s, of which only those who use Redis should know

    ConnectionPool.from_url(uri.replace("redis+unix", "unix", 1)).make_connection()
    return True


def load_authority(path: FilePath) -> ssl.SSLContext:
    """Return what trusts the certificates in a file."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError:
        raise ValueError("the file holds no certificate") from None


def check_with(parse: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that refuses what `parse` refuses, and keeps the value as it is."""

    def verify(value: Any) -> Any:
        parse(value)
        return value

    return AfterValidator(verify)


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=60)]
Protocol = Literal["http/json", "http/protobuf"]
Compression = Literal["none", "gzip"]
PostgresUrl = Annotated[SecretStr, AfterValidator(parse_postgres_url)]
Hs256Secret = Annotated[SecretStr, AfterValidator(parse_secret)]
BearerToken = Annotated[SecretStr, AfterValidator(parse_token)]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
UrlPath = Annotated[str, AfterValidator(parse_path)]
RootPath = Annotated[str, AfterValidator(parse_prefix)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(parse_origin)], ...], NoDecode, BeforeValidator(split)]
FieldNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split), AfterValidator(parse_field_names)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(parse_networks), BeforeValidator(split)]
Proxies = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split), check_with(parse_networks)]
OtlpHeaders = Annotated[SecretStr, check_with(parse_headers)]
Authority = Annotated[FilePath, check_with(load_authority)]
RateLimits = Annotated[str, check_with(parse_limits)]
StorageUri = Annotated[SecretStr, AfterValidator(parse_storage)]
