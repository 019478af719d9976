"""Who may ask what: the Host header, other sites' pages, the token; and the headers of every answer."""

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from fieldguide.deploy.server.limits import Refused

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OPEN_PATHS = ("/", "/page.js", "/page.css", "/v2/health/live", "/v2/health/ready")  # they tell nothing of a model


def demand_host(headers: Headers, names: Collection[str]) -> None:
    """Refuses a name that is not the server's: a page elsewhere may have made it lead here (DNS rebinding).

    Addresses are no names, so they are allowed. Raises Refused.
    """
    host = host_of(headers.get("host", ""))
    if host not in names and not _is_address(host):
        raise Refused(400, f"Host {host[:100]!r} is not a name of this server; start it with --allow-host NAME")


def demand_own_page(headers: Headers, names: Collection[str]) -> None:
    """Refuses what a browser sends for another site's page; raises Refused."""
    origin = headers.get("origin")
    if origin is None:
        return
    place = urlsplit(origin)
    if place.netloc.lower() != headers.get("host", "").lower() and (place.hostname or "") not in names:
        raise Refused(403, "a page of another site may not send photos here")


def demand_token(headers: Headers, token: bytes) -> None:
    """Compares the token in a time that tells nothing of it; raises Refused."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
    if kind.lower() != "bearer" or not is_right:
        raise Refused(401, "the token is missing or wrong: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    header = header.strip().lower()
    name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return name.removesuffix(".")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
