#!/usr/bin/env bash
# Builds the images and checks them and docker-compose.yml, with the Docker engine that is there.
#
#   deploy/test_containers.sh
#
# Without an engine it says so and exits 0; with NEGSERVE_REQUIRE_DOCKER set, 1.
set -euo pipefail
cd "$(dirname "$0")/.."
export DOCKER_BUILDKIT=1

if ! docker version >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
  echo "container checks SKIPPED: no Docker engine with Compose v2 answers 'docker version' and" \
    "'docker compose version'. Install one (https://docs.docker.com/engine/install/), start it," \
    "or set DOCKER_HOST to one that runs."
  [ -z "${NEGSERVE_REQUIRE_DOCKER:-}" ] || { echo "NEGSERVE_REQUIRE_DOCKER is set: failed"; exit 1; }
  exit 0
fi

name=negserve-test-$$
server_image=$name-server:test
client_image=$name-client:test
compose=(docker compose --project-name "$name" --file docker-compose.yml)
export NEGSERVE_PORT=0 # a free one: the default may be taken by a server of the person who tests
work=$(mktemp -d)
num_passed=0
clean_up() {
  docker rm --force "$name" "$name-compiling" >/dev/null 2>&1 || true
  "${compose[@]}" down --rmi local --volumes --timeout 1 >/dev/null 2>&1 || true
  docker rmi "$server_image" "$client_image" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

# check WHAT COMMAND...: runs the command; the first that fails ends the script with its output.
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
# What it waits for is an event; the end only keeps a machine that hangs from waiting for ever.
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
  local text=$1 status=0
  "${@:2}" >"$work/failure" 2>&1 || status=$?
  cat "$work/failure"
  [ "$status" -eq 1 ] && grep --fixed-strings --quiet "$text" "$work/failure"
}
in_image() { # IMAGE PROGRAM ARGUMENTS...: runs the program in place of the image's own
  docker run --rm --read-only --network none --entrypoint "$2" "$1" "${@:3}"
}
start() { # NAME OPTIONS...: starts a server as docker-compose.yml does
  docker run --detach --name "$1" --read-only --cap-drop ALL \
    --security-opt no-new-privileges "${@:2}" "$server_image"
}
logged() { # NAME TEXT
  docker logs "$1" >"$work/log" 2>&1 && grep --fixed-strings "$2" "$work/log"
}

for target in server client; do
  image=${target}_image
  image=${!image}
  check "$target: builds" docker build --target "$target" --tag "$image" .
  check "$target: user is a number, not 0" \
    grep --extended-regexp --quiet '^[1-9][0-9]*(:[1-9][0-9]*)?$' \
    <(docker image inspect --format '{{.Config.User}}' "$image")
  check "$target: no compiler" in_image "$image" sh -c \
    'for i in cc gcc g++ c++ clang tcc; do if command -v $i; then exit 1; fi; done'
  check "$target: no torch, and no pip in the environment" in_image "$image" python -c \
    'import importlib.util as i; import sys; sys.exit(any(map(i.find_spec, ("torch", "pip"))))'
  check "$target: nothing in /opt is the user's to write" in_image "$image" sh -c \
    'test -d /opt/venv && test -z "$(find /opt -writable ! -type l -print -quit)"'
done
check "client: no numba, no polars" in_image "$client_image" python -c \
  'import importlib.util as i; import sys; sys.exit(any(map(i.find_spec, ("numba", "polars"))))'
num_kernels=$(in_image "$server_image" find /opt/numba-cache -name '*.nbc' | wc -l)
check "server: $num_kernels kernels in the cache" test "$num_kernels" -gt 0

start "$name" --env NUMBA_DEBUG_CACHE=1 >/dev/null
check "server: listens, on a read-only file system" while_runs "$name" \
  logged "$name" "listening on 0.0.0.0:7733"
# Of the processor, not of the clock, which other processes share.
ticks=$(docker exec "$name" awk '{ print $14 + $15 }' /proc/1/stat)
milliseconds=$((ticks * 10))
check "server: that took $milliseconds ms of a processor, less than 10,000" \
  test "$milliseconds" -lt 10000
check "server: Docker's HEALTHCHECK says healthy" while_runs "$name" bash -c \
  "[ \"\$(docker inspect --format '{{.State.Health.Status}}' $name)\" = healthy ]"
check "server: the health check fails for a port where nobody listens" \
  fails_with UNAVAILABLE docker exec "$name" python -m negserve_server.health_check 127.0.0.1:1
check "server: and for a service that it hasn't" \
  fails_with NOT_FOUND docker exec "$name" python -m negserve_server.health_check 127.0.0.1:7733 it
check "client: samples, and all is as promised" docker run --rm --read-only \
  --network "container:$name" --env NEGSERVE_TARGET=127.0.0.1:7733 "$client_image"
check "client: fails, and says why, where no server is" fails_with UnavailableError \
  docker run --rm --read-only --network none --env NEGSERVE_TARGET=127.0.0.1:1 "$client_image"
docker logs "$name" >"$work/server.log" 2>&1
num_loaded=$(grep --count 'data loaded from' "$work/server.log" || true)
check "server: all $num_kernels kernels came from the cache" test "$num_loaded" -eq "$num_kernels"
check "server: compiled nothing, for no request either" \
  not grep --fixed-strings 'not in the cache, compiled' "$work/server.log"
check "server: SIGTERM ends it in time" docker stop --time 15 "$name"
check "server: with status 0" test "$(docker inspect --format '{{.State.ExitCode}}' "$name")" -eq 0
check "server: after an orderly end" logged "$name" "negserve_server.app: stopped"

# For a CPU of another name the cache holds nothing: what the check above looks for must appear.
start "$name-compiling" --env NUMBA_CPU_NAME=generic >/dev/null
check "server: a missing kernel is compiled, and the log tells" while_runs "$name-compiling" \
  logged "$name-compiling" 'not in the cache, compiled'
check "server: and told of at once" logged \
  "$name-compiling" 'compiling the sampling kernels'
check "server: and it serves all the same" while_runs "$name-compiling" \
  logged "$name-compiling" "listening on"

check "compose: the client samples from the healthy server and exits 0" \
  "${compose[@]}" up --build --exit-code-from client
sed -n 's/.*client-1  *| /  /p' "$work/output"
check "compose: the server ended with status 0" test \
  "$(docker inspect --format '{{.State.ExitCode}}' "$name-server-1")" -eq 0

for image in "$server_image" "$client_image"; do
  echo "size of $image: $(($(docker image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
done
echo "$num_passed passed, 0 failed"
