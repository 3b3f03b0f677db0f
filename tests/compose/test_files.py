"""docker-compose.yml and Dockerfile agree with the settings and the packages they are about."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from shared.config import DEFAULT_MODEL, ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROCESSES = {"tokenizer", "scheduler", "worker", "worker-cuda", "detokenizer"}
ELSEWHERE = {  # settings that a deployment in containers takes from somewhere else
    "tokenizers",  # --scale
    "detokenizers",  # --scale
    "replica",  # the container's host name
    "namespace",  # a Redis of its own
    "cache_dir",  # the image
    "parent",  # the local launcher
}


def test_every_setting_reaches_the_processes() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - ELSEWHERE
    of_workers = {"device"}
    of_front_doors = {
        "published_host",
        "api_keys",
        "api_keys_file",
        "admin_key",
        "admin_key_file",
        "admin_port",
        "admin_host",
        "allow_unauthenticated",
        "allowed_hosts",
        "cors_origins",
        "share_cache",
    }
    common = fields - of_workers - of_front_doors
    own = {"tokenizer": of_front_doors, "worker": of_workers, "worker-cuda": of_workers}
    for name in PROCESSES:
        given = {
            key.removeprefix(ENV_PREFIX).lower()
            for key in COMPOSE["services"][name]["environment"]
            if key.startswith(ENV_PREFIX)
        }
        assert given == common | own.get(name, set()), name


def test_the_default_model_is_the_packages_own() -> None:
    assert COMPOSE["x-settings"]["ROOTSTREAM_MODEL"] == f"${{MODEL:-{DEFAULT_MODEL}}}"


def test_only_the_front_publishes_a_port_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published.pop("grafana") == ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]
    assert published == {"front": ["${ROOTSTREAM_BIND:-127.0.0.1}:${PORT:-30000}:30000"]}


def test_what_may_be_served_without_a_key_goes_by_where_the_port_is_published() -> None:
    environment = COMPOSE["services"]["tokenizer"]["environment"]
    [port] = COMPOSE["services"]["front"]["ports"]
    assert port.startswith(environment["ROOTSTREAM_PUBLISHED_HOST"] + ":")


def test_every_container_is_checked_and_hardened() -> None:
    for name, service in COMPOSE["services"].items():
        ends = service["restart"] == "no"
        assert ends or service["healthcheck"]["test"], name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_every_role_sees_its_own_password_and_nothing_else() -> None:
    services = COMPOSE["services"]

    def secrets(name: str) -> list[str]:
        return [volume for volume in services[name].get("volumes", ()) if volume.startswith("secrets-")]

    for name in PROCESSES:
        role = name.partition("-")[0]
        assert services[name]["environment"]["ROOTSTREAM_REDIS_USER"] == role
        assert secrets(name) == [f"secrets-{role}:/run/rootstream:ro"]
        assert services[name]["environment"]["ROOTSTREAM_REDIS_PASSWORD_FILE"].startswith("/run/rootstream/")
    assert secrets("redis") == ["secrets-redis:/run/rootstream:ro"], "it knows digests only"
    assert "--aclfile /run/rootstream/users.acl" in services["redis"]["command"]
    assert services["users"]["network_mode"] == "none"
    assert {volume.partition(":")[0] for volume in secrets("users")} == {
        n for n in COMPOSE["volumes"] if "secrets" in n
    }
    assert not secrets("front")


def test_exactly_one_worker_starts_with_either_profile() -> None:
    profiles = {name: service["profiles"] for name, service in COMPOSE["services"].items() if "profiles" in service}
    watching = ["observe", "observe-cuda"]
    watchers = dict.fromkeys(("operators", "prometheus", "grafana"), watching)
    assert profiles == {"worker": ["cpu", "observe"], "worker-cuda": ["cuda", "observe-cuda"], **watchers}
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()


def test_the_build_context_has_every_package() -> None:
    """.dockerignore names what the image is made of: a package missing there is missing in the image."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {name.partition(".")[0] for name in packages} <= allowed


def test_those_who_watch_see_the_operators_port_alone_and_not_redis() -> None:
    services, folder = COMPOSE["services"], ROOT / "docker" / "observe"
    door = services["operators"]["environment"]
    assert door["ROOTSTREAM_ADMIN_KEY_FILE"] == "/run/operators/admin-key"
    [job] = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    assert job["authorization"]["credentials_file"] == door["ROOTSTREAM_ADMIN_KEY_FILE"]
    assert job["static_configs"] == [{"targets": [f"operators:{door['ROOTSTREAM_ADMIN_PORT']}"]}]
    assert door["ROOTSTREAM_ALLOWED_HOSTS"] == "operators", "the name that it is asked by"
    for name in ("prometheus", "grafana"):
        assert "bus" not in services[name]["networks"]
        assert [volume for volume in services[name]["volumes"] if "secrets" in volume] == [
            "secrets-operators:/run/operators:ro"
        ]
        assert ":v" in services[name]["image"] or services[name]["image"][-1].isdigit(), "pinned"
    assert COMPOSE["networks"]["observe"] == {"internal": True}
    for kind in ("datasources", "dashboards"):
        assert [*(folder / "grafana" / "provisioning" / kind).glob("*.yml")]
