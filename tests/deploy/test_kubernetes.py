"""deploy/kubernetes: what kustomize makes of it is valid, safe, and fits the server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from negserve.cli import main as client_main
from negserve_server import health_check
from negserve_server.cli import main
from negserve_server.config.server_config import ServerConfig
from tests.support.graphs import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())
#: The oldest Kubernetes that knows all fields, and the newest one.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
#: A component that has two others.
BY_NEGATIVES = "autoscaled-by-negatives"
ALL = tuple(name for name in COMPONENTS if name not in {"autoscaled", "observed"})
COMBINED = [(), *((name,) for name in COMPONENTS), ALL]


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """Return the objects of a folder, or skip the test where there is no kubectl."""
    if shutil.which("kubectl") is None:
        say = pytest.fail if os.environ.get("NEGSERVE_REQUIRE_KUBECTL") else pytest.skip
        say("there is no kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def combined(folder: Path, components: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the objects of the base with some components; the folder is an empty one."""
    shutil.copytree(FOLDER, folder / "copy")  # kustomize reads no absolute paths
    kustomization = {
        "resources": ["copy/base"],
        "components": [f"copy/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return kustomize(folder)


@pytest.fixture(scope="module", params=COMBINED, ids="+".join)
def objects(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The base with some components."""
    return combined(tmp_path_factory.mktemp("overlay"), request.param)


def the(objects: list[dict[str, Any]], kind: str, name: str = "negserve") -> dict[str, Any]:
    (found,) = (
        each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def pod_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = the(objects, "Deployment")["spec"]["template"]["spec"]
    return pod


def containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod["containers"]
    yield from pod.get("initContainers", ())


def test_objects_fit_the_schemas(objects: list[dict[str, Any]]):
    for each in objects:
        if each["kind"] == "ServiceMonitor":  # of the Prometheus operator, see below
            continue
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_overlays_fit_the_schemas(version: str):
    for folder in (FOLDER / "overlays").iterdir():
        for each in kustomize(folder):
            kubernetes_validate.validate(each, version, strict=True)


def test_the_server_takes_its_arguments(objects: list[dict[str, Any]]):
    pod = pod_of(objects)
    command, *arguments = pod["containers"][0]["args"]
    assert command == "serve"
    assert ("--insecure" in arguments) != any(each.startswith("--tls-cert") for each in arguments)
    serve = main.commands["serve"]  # type: ignore[attr-defined]
    serve.make_context("serve", arguments)
    for each in pod.get("initContainers", ()):
        program, name = each["command"]
        assert program == "negserve"
        client_main.commands[name].make_context(name, [*each["args"]])  # type: ignore[attr-defined]


def test_there_is_time_to_drain(objects: list[dict[str, Any]]):
    pod = pod_of(objects)
    command, pause = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(pause) + ServerConfig().drain_seconds


def test_probes_reach_the_server(objects: list[dict[str, Any]]):
    (container,) = pod_of(objects)["containers"]
    has_tls = any(each.startswith("--tls-cert") for each in container["args"])
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[kind]
        if not has_tls:
            assert f"--listen=0.0.0.0:{probe['grpc']['port']}" in container["args"]
            continue
        python, option, module, target = probe["exec"]["command"]
        assert (python, option, module) == ("python", "-m", health_check.__name__)
        assert f"--listen={target}" in container["args"]


def test_containers_can_do_little(objects: list[dict[str, Any]]):
    pod = pod_of(objects)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    for each in containers(pod):
        security = each["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in each["resources"]["limits"]


def test_volumes_are_mounted_and_all_containers_have_one_image(objects: list[dict[str, Any]]):
    pod = pod_of(objects)
    mounted = {mount["name"] for each in containers(pod) for mount in each["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}
    assert len({each["image"] for each in containers(pod)}) == 1


def test_objects_select_the_pods(objects: list[dict[str, Any]]):
    deployment = the(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        the(objects, "Service")["spec"]["selector"],
        deployment["spec"]["selector"]["matchLabels"],
        the(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()
    names = {each["name"] for each in pod_of(objects)["containers"][0]["ports"]}
    assert {port["targetPort"] for port in the(objects, "Service")["spec"]["ports"]} == names
    assert the(objects, "Service")["spec"]["clusterIP"] == "None"


def test_a_scaler_and_the_manifest_do_not_both_set_the_number_of_replicas(
    objects: list[dict[str, Any]],
):
    scalers = [each for each in objects if each["kind"] == "HorizontalPodAutoscaler"]
    assert ("replicas" in the(objects, "Deployment")["spec"]) == (not scalers)
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"]["name"] == the(objects, "Deployment")["metadata"][
            "name"
        ]  # fmt: skip


def test_a_scaler_asks_for_the_metric_of_the_adapter(tmp_path: Path):
    objects = combined(tmp_path, (BY_NEGATIVES,))
    resource, pods = the(objects, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert resource["resource"]["name"] == "cpu"
    rules = yaml.safe_load((REPOSITORY / "deploy/prometheus/adapter.yaml").read_text("utf-8"))
    (rule,) = rules["rules"]
    assert pods["pods"]["metric"] == {"name": rule["name"]["as"]}


def test_prometheus_finds_and_reaches_the_metrics(objects: list[dict[str, Any]]):
    monitors = [each for each in objects if each["kind"] == "ServiceMonitor"]
    (container,) = pod_of(objects)["containers"]
    listens = [each for each in container["args"] if each.startswith("--metrics-listen=")]
    assert len(listens) == len(monitors)
    for monitor in monitors:
        # It is of a CustomResourceDefinition, of which there is no schema.
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
        assert set(monitor["spec"]) == {"selector", "endpoints"}
        service = the(objects, "Service")
        selector = monitor["spec"]["selector"]["matchLabels"]
        assert selector.items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["path"] == "/metrics"
        (port,) = (each for each in service["spec"]["ports"] if each["name"] == endpoint["port"])
        (opened,) = (each for each in container["ports"] if each["name"] == port["targetPort"])
        assert listens == [f"--metrics-listen=0.0.0.0:{opened['containerPort']}"]
        policy = the(objects, "NetworkPolicy", "negserve-metrics")["spec"]
        labels = the(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        (rule,) = policy["ingress"]
        assert rule["ports"] == [{"port": opened["name"]}]
        assert rule["from"]


def test_the_claim_is_that_of_the_volume(tmp_path: Path):
    objects = combined(tmp_path, ("claimed",))
    claim = the(objects, "PersistentVolumeClaim", "negserve-graphs")
    (volume,) = pod_of(objects)["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "negserve-graphs", "readOnly": True}
    # Replicas on several nodes read it while a Job writes.
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_overlay_brings_all_that_its_pods_mount_but_secrets():
    objects = kustomize(FOLDER / "overlays" / "production")
    there = {each["metadata"]["name"] for each in objects if each["kind"].endswith("VolumeClaim")}
    volumes = pod_of(objects)["volumes"]
    mounted = {each["persistentVolumeClaim"]["claimName"] for each in volumes
               if "persistentVolumeClaim" in each}  # fmt: skip
    assert mounted == there == {"negserve-graphs"}


def test_the_document_names_every_part():
    document = (REPOSITORY / "docs" / "kubernetes.md").read_text("utf-8")
    for path in FOLDER.rglob("kustomization.yaml"):
        assert f"| `{path.parent.relative_to(FOLDER)}` |" in document
