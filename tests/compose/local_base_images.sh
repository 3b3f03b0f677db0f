#!/usr/bin/env bash
# Makes stand-ins for the public base images from Debian packages, under the public images' own names, for machines
# that reach Debian's mirror but no image registry. An image that is there already is left alone. Needs root.
#
#   tests/compose/local_base_images.sh [WHEELS_URL]
#
# With WHEELS_URL, pip in the Python image takes packages from that page only.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
wheels_url=${1:-}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

image_of() { # SERVICE: its image as docker-compose.yml names it
    awk -v service="  $1:" '$0 == service { inside = 1 } inside && $1 == "image:" { print $2; exit }' \
        "$root/docker-compose.yml"
}

python_version=$(sed -n 's/^ARG PYTHON_VERSION=//p' "$root/Dockerfile")
python_image=python:$python_version-slim-bookworm
haproxy_image=$(image_of front)
valkey_image=$(image_of redis)

have() { docker image inspect "$1" >/dev/null 2>&1; }

bootstrap() { # DIRECTORY SUITE PACKAGES
    echo "local_base_images: Debian $2 with $3 …"
    debootstrap --variant=minbase --include="$3" "$2" "$1" "$mirror" >"$scratch/log" 2>&1 || { tail "$scratch/log"; exit 1; }
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/*
}

import() { # DIRECTORY IMAGE CHANGE…
    local directory=$1 image=$2 changes=()
    for change in "${@:3}"; do changes+=(--change "$change"); done
    tar -C "$directory" -c . | docker import "${changes[@]}" - "$image" >/dev/null
    echo "local_base_images: made $image"
}

if ! have "$python_image"; then
    # Debian 12's own Python is 3.11; the public image has its Python in /usr/local/bin.
    bootstrap "$scratch/python" bookworm python3,python3-venv,python3-pip,ca-certificates
    for name in python python3 "python$python_version"; do
        ln -s "/usr/bin/python$python_version" "$scratch/python/usr/local/bin/$name"
    done
    if [[ -n $wheels_url ]]; then
        printf '[global]\nno-index = true\nfind-links = %s\n' "$wheels_url" >"$scratch/python/etc/pip.conf"
    fi
    import "$scratch/python" "$python_image" 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' 'CMD ["python3"]'
fi

if ! have "$haproxy_image" || ! have "$valkey_image"; then
    # Debian 13 has the same releases as the tags in docker-compose.yml: HAProxy 3.0 and Valkey 8.1.
    bootstrap "$scratch/services" trixie haproxy,valkey-server,valkey-tools,wget
    for setting in 's/^valkey:x:100:101:/valkey:x:999:1000:/' 's/^haproxy:x:101:102:/haproxy:x:99:99:/'; do
        sed -i "$setting" "$scratch/services/etc/passwd"
    done
    sed -i 's/^valkey:x:101:/valkey:x:1000:/; s/^haproxy:x:102:/haproxy:x:99:/' "$scratch/services/etc/group"
    install -d -o 999 -g 1000 "$scratch/services/data"
    import "$scratch/services" "$haproxy_image" 'USER haproxy' \
        'CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'
    import "$scratch/services" "$valkey_image" 'WORKDIR /data' 'VOLUME /data' 'EXPOSE 6379' 'CMD ["valkey-server"]'
fi
