"""The app's pages: files as they are, the entry page for the rest, nothing from outside the folder."""

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from bonfire.web.pages import page_routes


@pytest.fixture
def client(tmp_path: Path) -> httpx.AsyncClient:
    folder = tmp_path / "app"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<title>the entry</title>")
    (folder / "assets" / "index-abc123.js").write_text("export {}")
    (tmp_path / "secret.txt").write_text("not for the web")
    transport = httpx.ASGITransport(Starlette(routes=page_routes(folder)))
    return httpx.AsyncClient(transport=transport, base_url="http://bonfire.example")


@pytest.mark.parametrize("path", ["/", "/patients/1", "/patients/a.b", "/index.html"])
async def test_a_pages_address_gives_the_entry_page_asked_for_anew_each_time(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert "the entry" in answer.text
    assert answer.headers["cache-control"] == "no-cache"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_a_fingerprinted_file_may_be_kept_for_ever(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/index-abc123.js")
    assert answer.text == "export {}"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/assets/gone.js", "/favicon.ico", "/app.css", "/a%00b", f"/{'a' * 300}"])
async def test_a_file_that_is_not_there_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt"])
async def test_nothing_outside_the_folder_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert "not for the web" not in (await client.get(path)).text


def test_a_folder_that_is_not_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="build the app first"):
        page_routes(tmp_path)
