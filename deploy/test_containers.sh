#!/usr/bin/env bash
# Builds the images, and checks them and docker-compose.yml. Needs a Docker engine.
#
#   deploy/test_containers.sh
#
# Without an engine it says so and exits 0, or 1 if NEGSERVE_REQUIRE_DOCKER is set.
set -euo pipefail
cd "$(dirname "$0")/.."
export DOCKER_BUILDKIT=1

if ! docker version >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
  echo "container checks SKIPPED: no Docker engine with Compose v2 answers 'docker version' and" \
    "'docker compose version'. Install one (https://docs.docker.com/engine/install/), start it," \
    "or set DOCKER_HOST to a running one."
  [ -z "${NEGSERVE_REQUIRE_DOCKER:-}" ] || { echo "NEGSERVE_REQUIRE_DOCKER is set: failed"; exit 1; }
  exit 0
fi

name=negserve-test-$$
server_image=$name-server:test
client_image=$name-client:test
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
compose=(docker compose --project-name "$name" --file docker-compose.yml)
export NEGSERVE_PORT=0 NEGSERVE_PORT_2=0 # a free port: a running server may use the default one
work=$(mktemp -d)
num_passed=0
clean_up() {
  jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
  docker rm --force "$name"{,-compiling,-trainer,-upgraded,-{old,replica}-{1,2}} >/dev/null 2>&1 || true
  docker network rm "$name" >/dev/null 2>&1 || true
  docker volume rm "$name-cache" >/dev/null 2>&1 || true
  "${compose[@]}" down --rmi local --volumes --timeout 1 >/dev/null 2>&1 || true
  docker rmi "${server_image%:test}":{test,released} "${client_image%:test}":{test,released} >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

# in_background NAME COMMAND...: runs the command beside the checks; background_ends waits for its success.
declare -A background
in_background() {
  "${@:2}" >"$work/background-$1" 2>&1 &
  background[$1]=$!
}
background_ends() { # NAME
  local status=0
  wait "${background[$1]}" || status=$?
  cat "$work/background-$1"
  return "$status"
}

# check WHAT COMMAND...: runs the command; if it fails, ends the script with the output.
check() {
  local what=$1 begin=$SECONDS
  shift
  if "$@" >"$work/output" 2>&1; then
    num_passed=$((num_passed + 1))
    echo "ok    $what ($((SECONDS - begin)) s)"
  else
    echo "FAIL  $what: $*"
    tail -n 60 "$work/output"
    echo "$num_passed passed, 1 failed"
    exit 1
  fi
}

# while_runs NAME COMMAND...: repeats the command until it succeeds, as long as the container runs.
# The time limit is only for a machine that hangs.
while_runs() {
  local name=$1 end=$((SECONDS + 900))
  shift
  until "$@"; do
    [ "$(docker inspect --format '{{.State.Running}}' "$name")" = true ] || {
      echo "the container $name has ended:"
      docker logs "$name"
      return 1
    }
    [ "$SECONDS" -lt "$end" ] || { echo "not in 15 minutes: $*"; return 1; }
    sleep 0.2
  done
}

not() { ! "$@"; }
fails_with() { # TEXT COMMAND...: exits 1 and prints the text
  local text=$1 status=0 output
  output=$("${@:2}" 2>&1) || status=$?
  echo "$output"
  [ "$status" -eq 1 ] && [[ $output == *"$text"* ]]
}
in_image() { # IMAGE PROGRAM ARGUMENTS...: runs the program in place of the image's entry point
  docker run --rm --read-only --network none --entrypoint "$2" "$1" "${@:3}"
}
start() { # NAME OPTIONS...: starts a server as docker-compose.yml does
  docker run --detach --name "$1" --read-only --cap-drop ALL \
    --security-opt no-new-privileges "${@:2}" "$server_image"
}
logged() { # NAME TEXT
  docker logs "$1" 2>&1 | grep --fixed-strings "$2"
}

# Together: most of the time one processor compiles kernels.
in_background client docker build --target client --tag "$client_image" .
check "server: builds" docker build --target server --tag "$server_image" .
check "client: builds" background_ends client
# The images of the last release are made until the upgrade needs them: their kernels, too, take a while.
for target in server client; do
  image=${target}_image
  in_background "released-$target" docker build --build-arg "BASE=${!image}" --target "$target" \
    --tag "${!image%:test}:released" --file deploy/upgrade/Dockerfile tests/upgrade
done

# Its patience takes half a minute.
in_background alone fails_with UnavailableError \
  docker run --rm --read-only --network none --env NEGSERVE_TARGET=127.0.0.1:1 "$client_image"

for target in server client; do
  image=${target}_image
  image=${!image}
  check "$target: user is a number, not 0" \
    grep --extended-regexp --quiet '^[1-9][0-9]*(:[1-9][0-9]*)?$' \
    <(docker image inspect --format '{{.Config.User}}' "$image")
  check "$target: no compiler" in_image "$image" sh -c \
    'for i in cc gcc g++ c++ clang tcc; do if command -v $i; then exit 1; fi; done'
  check "$target: no installer" in_image "$image" sh -c \
    'for i in apt-get pip pip3 perl; do if command -v $i; then exit 1; fi; done'
  check "$target: no torch, no pip" in_image "$image" python -c \
    'import importlib.util as i; import sys; sys.exit(any(map(i.find_spec, ("torch", "pip"))))'
  check "$target: the user can't write to /opt" in_image "$image" sh -c \
    'test -d /opt/venv && test -z "$(find /opt -writable ! -type l -print -quit)"'
  check "$target: the SBOM names every distribution, with its version" in_image "$image" python -c \
    'import importlib.metadata as m, json
with open("/opt/venv/sbom.cdx.json") as file:
    named = {(c["name"].lower(), c["version"]) for c in json.load(file)["components"]}
found = {(d.name.lower(), d.version) for d in m.distributions(path=[*__import__("site").getsitepackages()])}
assert len(found) > 5 and found <= named, found - named'
  check "$target: the SBOM names Python, and every package of Debian" in_image "$image" python -c \
    'import json, platform, subprocess
command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"]
found = {tuple(line.split()) for line in subprocess.check_output(command, text=True).splitlines()}
found.add(("python", platform.python_version()))
with open("/opt/venv/sbom.cdx.json") as file:
    named = {(c["name"], c["version"]) for c in json.load(file)["components"]}
assert len(found) > 20 and found <= named, found - named'
  check "$target: labels name the version" grep --fixed-strings --quiet "$version" \
    <(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "$image")
done
num_megabytes=$(($(docker image inspect --format '{{.Size}}' "$server_image") / 1000000))
check "server: $num_megabytes MB, at most 500" test "$num_megabytes" -le 500
# But for those of numba that need libraries which the image never had.
check "server: all compiled modules can be imported" in_image "$server_image" python -c \
  'import importlib, pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
found = [path.relative_to(site) for path in site.rglob("*.so") if path.name.count(".") > 1]
assert len(found) > 30, found
for path in found:
    if not path.name.startswith(("tbbpool", "omppool")):
        importlib.import_module(".".join((*path.parent.parts, path.name.partition(".")[0])))'
check "server: what a start imports has byte code" in_image "$server_image" python -c \
  'import os, sys
import negserve_server.health_check, negserve_server.metrics.prometheus_metrics, negserve_server.warm_up
import negserve_server.cli
cached = [getattr(module, "__cached__", None) for module in sys.modules.values()]
missing = [path for path in cached if path and path.startswith("/opt") and not os.path.exists(path)]
assert len(cached) > 500 and not missing, missing'
check "client: no numba, no polars" in_image "$client_image" python -c \
  'import importlib.util as i; import sys; sys.exit(any(map(i.find_spec, ("numba", "polars"))))'
num_kernels=$(in_image "$server_image" find /opt/numba-cache -name '*.nbc' | wc -l)
check "server: $num_kernels kernels in the cache" test "$num_kernels" -gt 0

start "$name" --env NUMBA_DEBUG_CACHE=1 >/dev/null
check "server: listens, on a read-only file system" while_runs "$name" \
  logged "$name" "listening on 0.0.0.0:7733"
# Processor time, as other processes delay the clock's.
ticks=$(docker exec "$name" awk '{ print $14 + $15 }' /proc/1/stat)
milliseconds=$((ticks * 10))
check "server: the start took $milliseconds ms of processor time, less than 10,000" \
  test "$milliseconds" -lt 10000
check "server: Docker's HEALTHCHECK says healthy" while_runs "$name" bash -c \
  "[ \"\$(docker inspect --format '{{.State.Health.Status}}' $name)\" = healthy ]"
check "server: the health check fails for an unused port" \
  fails_with UNAVAILABLE docker exec "$name" python -m negserve_server.health_check 127.0.0.1:1
check "server: the health check fails for an unknown service" \
  fails_with NOT_FOUND docker exec "$name" python -m negserve_server.health_check 127.0.0.1:7733 it
check "client: samples, and all promises hold" docker run --rm --read-only \
  --network "container:$name" --env NEGSERVE_TARGET=127.0.0.1:7733 "$client_image"
docker logs "$name" >"$work/server.log" 2>&1
num_loaded=$(grep --count 'data loaded from' "$work/server.log" || true)
check "server: all $num_kernels kernels came from the cache" test "$num_loaded" -eq "$num_kernels"
check "server: compiled nothing, at the start or for a request" \
  not grep --fixed-strings 'not in the cache, compiled' "$work/server.log"
check "server: SIGTERM ends it in time" docker stop --time 15 "$name"
check "server: with status 0" test "$(docker inspect --format '{{.State.ExitCode}}' "$name")" -eq 0
check "server: the log has its orderly end" logged "$name" "negserve_server.serving.server: stopped"

# A copy of the cache without the smallest kernel, so the line that the check above excludes must appear.
check "server: a cache without one kernel" docker run --rm --user 0 --volume "$name-cache:/cache" \
  --entrypoint sh "$server_image" -ec 'cp -r /opt/numba-cache/. /cache
    rm "$(find /cache -name "*.nbc" -printf "%s %p\n" | sort -n | sed -n "1s/^[0-9]* //p")"'
start "$name-compiling" --volume "$name-cache:/cache:ro" --env NUMBA_CACHE_DIR=/cache >/dev/null
check "server: a missing kernel is compiled and logged" while_runs "$name-compiling" \
  logged "$name-compiling" 'not in the cache, compiled'
check "server: the log announces the compilation" logged \
  "$name-compiling" 'compiling the sampling kernels'
check "server: it serves after the compilation" while_runs "$name-compiling" \
  logged "$name-compiling" "listening on"
check "client: without a server, fails and says why" background_ends alone

export NEGSERVE_IMAGE=$server_image NEGSERVE_CLIENT_IMAGE=$client_image
check "compose: the client samples from healthy replicas and exits 0" \
  "${compose[@]}" up --exit-code-from client client
sed -n 's/.*client-1  *| /  /p' "$work/output"
check "compose: a replica answers Prometheus" "${compose[@]}" run --rm --entrypoint python client -c \
  'import urllib.request as u; text = u.urlopen("http://server-2:9464/metrics").read().decode()
assert "negserve_negatives_total{dataset=" in u.urlopen("http://server-1:9464/metrics").read().decode()
assert "negserve_build_info" in text'
check "compose: the profile observe is in order" "${compose[@]}" --profile observe config --quiet
check "compose: a snapshot is on the volume once" \
  "${compose[@]}" run --rm --no-deps snapshot 'ls /graphs; test "$(ls /graphs)" = world'
# The trainer's weights do not depend on what happens to a replica meanwhile.
check "compose: the trainer trains on both replicas" "${compose[@]}" run --rm --env NUM_EPOCHS=40 trainer
weights=$(grep --only-matching 'replicas, weights [0-9a-f]*' "$work/output")
check "compose: the trainer starts once more" \
  "${compose[@]}" run --detach --name "$name-trainer" --env NUM_EPOCHS=40 trainer
check "compose: it has begun" while_runs "$name-trainer" logged "$name-trainer" "epoch 1:"
check "compose: a replica is killed in mid-stream" \
  "${compose[@]}" kill --signal SIGKILL server-1
check "compose: the other one is stopped once the first is back" bash -ec "
  docker start $name-server-1-1 >/dev/null
  until [ \"\$(docker inspect --format '{{.State.Health.Status}}' $name-server-1-1)\" = healthy ]; do sleep 0.2; done
  docker stop --time 15 $name-server-2-1"
check "compose: the trainer ends with 0" test "$(docker wait "$name-trainer")" -eq 0
check "compose: and with the weights of the undisturbed run" logged "$name-trainer" "$weights"
check "compose: the replica that was stopped ended with status 0" test \
  "$(docker inspect --format '{{.State.ExitCode}}' "$name-server-2-1")" -eq 0

# A rolling upgrade: the last release's trainer reads on while replica by replica becomes this release, and
# back again. It is given so little of a processor that it outlasts that, and all of it in the end.
for target in server client; do
  check "upgrade: the last release's $target" background_ends "released-$target"
done
check "upgrade: a network" docker network create "$name"
replace() { # NUMBER TAG: stops a replica, if there is one, and starts it from another image
  docker rm --force "$name-old-$1" >/dev/null 2>&1 || true
  if docker rename "$name-replica-$1" "$name-old-$1" 2>/dev/null; then
    docker stop --time 15 "$name-old-$1"
  fi
  docker run --detach --name "$name-replica-$1" --network "$name" --network-alias "replica-$1" \
    --read-only "${server_image%:test}:$2"
  while_runs "$name-replica-$1" logged "$name-replica-$1" "listening on 0.0.0.0:7733"
}
trainer_is_running() {
  [ "$(docker inspect --format '{{.State.Running}}' "$name-upgraded")" = true ]
}
for number in 1 2; do
  in_background "replica-$number" replace "$number" released
done
for number in 1 2; do
  check "upgrade: replica $number is of the last release" background_ends "replica-$number"
done
check "upgrade: its trainer starts" docker run --detach --name "$name-upgraded" --network "$name" --cpus 0.25 \
  --env NUM_EPOCHS=40 --env NEGSERVE_TARGET=replica-1:7733,replica-2:7733 \
  "${client_image%:test}:released" trainer
check "upgrade: it has begun" while_runs "$name-upgraded" logged "$name-upgraded" "epoch 1:"
check "upgrade: it is slowed down" docker update --cpus 0.05 "$name-upgraded"
for tag in test released; do
  for number in 1 2; do
    check "upgrade: replica $number becomes the image $tag" replace "$number" "$tag"
    check "upgrade: its trainer has not ended before" trainer_is_running
  done
done
check "upgrade: it is no longer slowed down" docker update --cpus 1 "$name-upgraded"
check "upgrade: its trainer ends with 0" test "$(docker wait "$name-upgraded")" -eq 0
check "upgrade: and with the weights of this release's trainer" logged "$name-upgraded" "$weights"
check "upgrade: the client of this release names the server as too old" \
  fails_with "upgrade servers before clients" docker run --rm --network "$name" \
  --env NEGSERVE_TARGET=replica-1:7733 "$client_image"

echo "the client has $(($(docker image inspect --format '{{.Size}}' "$client_image") / 1000000)) MB"
echo "$num_passed passed, 0 failed ($SECONDS s)"
