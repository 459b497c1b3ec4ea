"""flowwarden session: an agent's environment, and the sessions that there are."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import ssl
import tempfile
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from click.core import ParameterSource
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from ..credentials import names
from ..errors import ConfigError, FlowwardenError, Refusal, TokenError
from ..operators.client import Client
from .common import admin_option, console, json_option, print_json, show, token, token_option
from .tables import table

BUNDLE = "flowwarden-ca-bundle.pem"
GATEWAY_CA = "flowwarden-ca.pem"
TRUSTSTORE = "flowwarden-truststore.p12"
TRUSTSTORE_PASSWORD = "changeit"  # noqa: S105 what Java's own stores have; it keeps nobody out of public certificates
_SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def _proxy(_ctx: click.Context, _param: click.Parameter, url: str) -> str:
    found = urlsplit(url)
    if found.scheme not in ("http", "https") or not found.hostname:
        raise ConfigError(f"--proxy {url!r} is not a URL", "Give the gateway as http://HOST:PORT")
    return url


proxy_option = click.option(
    "--proxy",
    callback=_proxy,
    metavar="URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    envvar="FLOWWARDEN_PROXY",
    show_envvar=True,
    help="The gateway, as the agent reaches it.",
)
folder_option = click.option(
    "--folder",
    metavar="DIR",
    default=lambda: str(Path.home() / ".flowwarden"),
    show_default="~/.flowwarden",
    envvar="FLOWWARDEN_HOME",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the CA bundle is written.",
)


@click.group()
def session() -> None:
    """Sessions: an agent's stay at the gateway."""


@session.command()
@token_option
@proxy_option
@folder_option
@click.option(
    "--region", metavar="REGION", default="", envvar="AWS_REGION", show_envvar=True, help="AWS region to set."
)
@click.option(
    "--format", "form", type=click.Choice(["env", "json", "docker", "credential-process"]), default="env", show_default=True,
    help="How the environment is printed.",
)  # fmt: skip
def start(token_file: str | None, proxy: str, folder: Path, region: str, form: str) -> None:
    """Starts a session and prints the environment that points an agent at the gateway.

    As a credential_process of the AWS configuration it starts none: it prints the keys of the session that HTTPS_PROXY
    names, and renews that session if the token is a fresh one.
    """
    if form == "credential-process":
        print_json(_keys(proxy, token_file))
        return
    bearer = token(token_file)
    _made(folder)  # before there is a session that nobody could use
    told = _internal(proxy, "POST", "/session", bearer)
    bundle, fingerprint = write_bundle(proxy, folder)
    variables = environment(told, bundle, region, proxy)
    click.echo(f"session {told['session']} until {told['expires']}; CA fingerprint (SHA-256) {fingerprint}", err=True)
    if form == "json":
        print_json({**told, "environment": variables, "ca_bundle": str(bundle), "ca_sha256": fingerprint})
    elif form == "docker":
        click.echo("".join(f"{name}={value}\n" for name, value in variables.items()), nl=False)
    else:
        click.echo("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()), nl=False)


@session.command("list")
@admin_option
@token_option
@click.option("--all", "ended", is_flag=True, help="Ended ones of the last day too.")
@json_option
def list_(admin_url: str, token_file: str | None, ended: bool, as_json: bool) -> None:
    """The sessions that there are."""
    found = Client(admin_url, token(token_file)).sessions(all=ended)
    show(as_json, found, "Sessions", {
        "session": lambda row: row["session"],
        "principal": lambda row: row["principal"]["subject"],
        "agent": lambda row: row["principal"]["agent"],
        "groups": lambda row: " ".join(row["principal"]["groups"]),
        "start": lambda row: row["start"],
        "expires": lambda row: row["expires"],
        "ended": lambda row: row["ended"] or "",
    })  # fmt: skip


@session.command("show")
@click.argument("id")
@admin_option
@token_option
@json_option
def show_(id: str, admin_url: str, token_file: str | None, as_json: bool) -> None:
    """One session."""
    found = Client(admin_url, token(token_file)).session(id)
    if as_json:
        print_json(found)
        return
    who = found["principal"]
    about = f"{who['subject']} ({who['agent'] or 'no agent'}; groups {', '.join(who['groups'])})"
    rows = {**found, "principal": about, "acts for": who["owner"], "issuer": who["issuer"]}
    console().print(table(f"Session {id}", ("", ""), ((n, v) for n, v in rows.items() if v)), markup=False)


@session.command()
@click.argument("id")
@token_option
@proxy_option
@json_option
def renew(id: str, token_file: str | None, proxy: str, as_json: bool) -> None:
    """Makes a session last longer, with a fresh token of the same principal. Run it where the agent's HTTPS_PROXY is set."""
    proxy, handle = _here(proxy)
    if not handle:
        raise FlowwardenError("HTTPS_PROXY names no session here", "Set what `flowwarden session start` printed")
    here = _internal(proxy, "GET", "/whoami", "", handle=handle).get("session")
    if here != id:
        raise FlowwardenError(f"HTTPS_PROXY here is session {here}, not {id}")
    told = _internal(proxy, "POST", "/session/renew", token(token_file), handle=handle)
    print_json(told) if as_json else click.echo(f"session {id} until {told['expires']}")


@session.command()
@click.argument("id")
@admin_option
@token_option
@click.option("--principal", is_flag=True, help="All of its principal's sessions, and every token it has been given.")
def end(id: str, admin_url: str, token_file: str | None, principal: bool) -> None:
    """Ends a session: its next call is refused, its lease is dropped, its questions are withdrawn."""
    Client(admin_url, token(token_file)).end_session(id, principal=principal)
    click.echo(f"session {id} has ended")


@session.command()
@click.argument("name")
@click.option("--subject", metavar="SUBJECT", default="", help="Say whether the name was given for this subject.")
def who(name: str, subject: str) -> None:
    """Whose a RoleSessionName, SourceIdentity or session tag is that CloudTrail shows.

    STS allows few characters and 64 of them, so that subjects are spelt in another way there.
    """
    try:
        text, whole = names.decode(name)
    except ValueError as error:
        raise FlowwardenError(str(error)) from None
    if subject:
        given = names.matches(name, subject)
        click.echo(f"{name} is {'' if given else 'not '}{subject}'s")
        raise SystemExit(0 if given else 1)
    click.echo(text if whole else f"{text}… (cut: --subject SUBJECT tells whether it is somebody's)")


def environment(told: dict[str, Any], bundle: Path, region: str, proxy: str) -> dict[str, str]:
    """Every variable that the usual clients read: boto3, AWS CLI, curl, git, Node, Go, Java's tools."""
    keys = told["credentials"]
    url = _with_host(told["proxy"], proxy)
    variables = {
        "HTTPS_PROXY": url,
        "https_proxy": url,
        "HTTP_PROXY": url,
        "http_proxy": url,
        "NODE_USE_ENV_PROXY": "1",
        "AWS_CA_BUNDLE": str(bundle),
        "SSL_CERT_FILE": str(bundle),
        "REQUESTS_CA_BUNDLE": str(bundle),
        "CURL_CA_BUNDLE": str(bundle),
        "GIT_SSL_CAINFO": str(bundle),
        "NODE_EXTRA_CA_CERTS": str(bundle.parent / GATEWAY_CA),
        "JAVA_TOOL_OPTIONS": f"-Djavax.net.ssl.trustStore={bundle.parent / TRUSTSTORE} "
        f"-Djavax.net.ssl.trustStorePassword={TRUSTSTORE_PASSWORD} -Djavax.net.ssl.trustStoreType=PKCS12",
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "FLOWWARDEN_SESSION": told["session"],
    }
    if keys.get("SessionToken"):
        variables["AWS_SESSION_TOKEN"] = keys["SessionToken"]
    if region:
        variables["AWS_REGION"] = variables["AWS_DEFAULT_REGION"] = region
    return variables


def write_bundle(proxy: str, folder: Path) -> tuple[Path, str]:
    """Writes the gateway's CA alone and the system's CAs with it; gives the bundle's path and the CA's fingerprint."""
    pem = _fetch(proxy, "GET", "/ca.pem").decode("ascii", "replace")
    try:
        return save_bundle(pem, folder)
    except ValueError:
        raise FlowwardenError(f"{proxy} did not answer with a certificate", "Is that the gateway?") from None


def save_bundle(pem: str, folder: Path) -> tuple[Path, str]:
    """The same of a CA that is at hand. ValueError if it is no certificate."""
    der = ssl.PEM_cert_to_DER_cert(pem)
    system = next((Path(name).read_text(encoding="utf-8") for name in _SYSTEM_BUNDLES if Path(name).is_file()), "")
    _made(folder)
    try:
        (folder / GATEWAY_CA).write_text(pem, encoding="ascii")
        (folder / BUNDLE).write_text(f"{system.rstrip()}\n{pem}", encoding="utf-8")
        (folder / TRUSTSTORE).write_bytes(_truststore(f"{system.rstrip()}\n{pem}"))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", "Give another --folder") from None
    return (folder / BUNDLE).resolve(), ":".join(re.findall("..", hashlib.sha256(der).hexdigest().upper()))


def _made(folder: Path) -> None:
    """A folder that can be written. ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", "Give another --folder") from None


def _truststore(pem: str) -> bytes:
    """The same certificates as Java reads them (PKCS #12 with Java's own attribute; its password is no secret)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some public roots are older than the rules for serial numbers
        found = x509.load_pem_x509_certificates(pem.encode())
    certs = [pkcs12.PKCS12Certificate(cert, f"ca-{number}".encode()) for number, cert in enumerate(found)]
    return pkcs12.serialize_java_truststore(certs, BestAvailableEncryption(TRUSTSTORE_PASSWORD.encode()))


def _here(proxy: str) -> tuple[str, str]:
    """The gateway, and the session's handle, that HTTPS_PROXY names; the address is --proxy's if that is given."""
    here = os.environ.get("HTTPS_PROXY", "")
    if here and click.get_current_context().get_parameter_source("proxy") is ParameterSource.DEFAULT:
        proxy = f"{here.partition('://')[0]}://{here.rpartition('@')[2] if '@' in here else here.partition('://')[2]}"
    return proxy, _handle(here or proxy)


def _keys(proxy: str, token_file: str | None) -> dict[str, Any]:
    """The keys of the session that HTTPS_PROXY names: those of any other session are refused there."""
    proxy, handle = _here(proxy)
    if not handle:
        raise FlowwardenError(
            "HTTPS_PROXY names no session here, and keys are worth something in their own session only",
            "Set what `flowwarden session start` prints, or an OIDC token as the proxy's password.",
        )
    try:
        _internal(proxy, "POST", "/session/renew", token(token_file), handle=handle)
    except (ConfigError, TokenError):
        pass  # there is no fresh token: the session lasts as long as it does, which the keys say
    return _internal(proxy, "GET", "/credentials", "", handle=handle)


def _internal(proxy: str, method: str, path: str, bearer: str, *, handle: str = "") -> dict[str, Any]:
    found = json.loads(_fetch(proxy, method, path, bearer, handle))
    return dict(found)


def _fetch(proxy: str, method: str, path: str, bearer: str = "", handle: str = "") -> bytes:
    """Asks flowwarden.internal through the proxy, which is the only way to it."""
    url = _with_handle(proxy, handle) if handle else proxy
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": url}))
    request = urllib.request.Request(f"http://flowwarden.internal{path}", method=method)
    request.add_header("Accept", "application/json")
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    try:
        with opener.open(request, timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise _explain(error) from None
    except (OSError, ValueError) as error:
        raise FlowwardenError(
            f"the gateway at {proxy} cannot be reached: {getattr(error, 'reason', error)}", "Is it running?"
        ) from None


def _explain(error: urllib.error.HTTPError) -> FlowwardenError:
    body = error.read()
    try:
        told = json.loads(body)["error"]
        message, code = str(told["message"]), str(told["code"])
    except (ValueError, KeyError, TypeError):
        return FlowwardenError(
            f"what is there does not answer as a gateway: HTTP {error.code}", "Is --proxy its proxy?"
        )
    if error.code in (401, 403, 407):
        return TokenError(message, code)
    return Refusal(message, status=error.code, code=code)


def _with_host(told: str, proxy: str) -> str:
    """The told proxy URL with the address under which this side reaches the gateway."""
    return _with_handle(proxy, _handle(told))


def _with_handle(proxy: str, handle: str) -> str:
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://flowwarden:{handle}@{rest.rpartition('@')[2].rstrip('/')}"


def _handle(url: str) -> str:
    return unquote(urlsplit(url).password or "")


COMMANDS = (session,)
