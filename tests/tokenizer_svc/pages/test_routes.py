"""The pages as files: what goes with them, and that they ask for nothing that is not there."""

from __future__ import annotations

import re

import aiohttp

from tokenizer_svc.pages.routes import files


def test_pages_load_their_own_files_and_nothing_else() -> None:
    known = files()
    for name, file in known.items():
        text = file.body.decode()
        loaded = re.findall(r'(?:src|href)="([^"]+)"|from "([^"]+)"', text)
        for address in (first or second for first, second in loaded):
            assert (
                address.startswith("#") or address in {"docs", "openapi.json"} or address.rpartition("/")[2] in known
            ), (name, address)
        assert "innerHTML" not in text, name
        assert not re.search(r"<script(?! type=\"module\" src=)|<style|\son\w+=", text), f"{name} has inline code"


async def test_the_policy_goes_with_every_file(http: aiohttp.ClientSession) -> None:
    for path in ("/", "/docs", *(f"/pages/{name}" for name in files())):
        async with http.get(path) as response:
            assert response.status == 200
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            tag = response.headers["ETag"]
        async with http.get(path, headers={"If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
    for path in ("/pages/nothing.js", "/pages/routes.py", "/pages/%2e%2e%2froutes.py"):
        async with http.get(path) as response:
            assert response.status == 404
