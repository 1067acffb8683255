"""Addresses that stand in records: they hold no login."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

_SECRETS = {"password", "passwd", "pwd", "token", "sslpassword"}


def check_address(uri: str) -> str:
    """The address itself. ValueError, without the address, if it holds a password, or any login of a web server."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError(f"no address: {error}") from None
    web = parts.scheme in ("http", "https")
    if parts.password is None and not (web and parts.username) and not _SECRETS & parse_qs(parts.query).keys():
        return uri
    if web:
        mend = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    elif parts.scheme.startswith("postgres"):
        mend = "PGPASSWORD, or a file ~/.pgpass"
    else:
        mend = "the variables that its own tools read"
    raise ValueError(f"the address holds a login, which every record would show; leave it out and set {mend}")
