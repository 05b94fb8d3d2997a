"""The collections' clients against answers in the shape that the APIs give."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.pages.collections import CollectionError, search_commons, search_openverse
from tests.pipeline.fetch.server import Server

HTTP = HttpConfig(host_interval=0.0, attempts=1, open_ranges=("127.0.0.0/8",))


@pytest.fixture
def server():
    with Server() as running:
        running.files["127.0.0.1", "/robots.txt"].append((200, {}, b"User-agent: *\nDisallow: /\n"))  # as Commons' own
        yield running


def answer(server: Server, path: str, *bodies: object) -> None:
    server.files["127.0.0.1", path].extend((200, {}, json.dumps(body).encode()) for body in bodies)


def commons_page(number: int, **extra: dict) -> dict:
    info = {
        "thumburl": f"https://upload.wikimedia.org/thumb/{number}/1280px-Hand.jpg",
        "url": f"https://upload.wikimedia.org/{number}/Hand.jpg",
        "descriptionurl": f"https://commons.wikimedia.org/wiki/File:Hand_{number}.jpg",
        "mime": "image/jpeg",
        "extmetadata": {
            "Artist": {
                "value": '<a href="//commons.wikimedia.org/wiki/User:X">X &amp; Y</a>',
                "source": "commons-desc-page",
            },
            "LicenseShortName": {"value": "CC BY-SA 4.0", "source": "commons-desc-page", "hidden": ""},
            "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0", "source": "commons-desc-page"},
        },
    }
    return {"pageid": number, "ns": 6, "title": f"File:Hand {number}.jpg", "index": number, "imageinfo": [info | extra]}


def test_commons_gives_renditions_with_author_and_licence_over_pages(server):
    first = {"batchcomplete": True, "continue": {"gsroffset": 2, "continue": "gsroffset||"}}
    first |= {"query": {"pages": [commons_page(2), commons_page(1), commons_page(3, mime="application/pdf")]}}
    second = {"batchcomplete": True, "query": {"pages": [commons_page(4), commons_page(5)]}}
    answer(server, "/w/api.php", first, second)
    items = list(search_commons("hand on face", HTTP, 3, api=server.url("/w/api.php")))
    assert [item.uri.split("/")[4] for item in items] == ["1", "2", "4"]
    first_item = items[0]
    assert first_item.column("author") == "X & Y" and first_item.column("licence") == "CC BY-SA 4.0"
    assert first_item.column("page") == "https://commons.wikimedia.org/wiki/File:Hand_1.jpg"


def test_openverse_gives_pictures_with_creator_and_licence_over_pages(server):
    def result(number: int) -> dict:
        return {
            "id": str(number), "title": "Hand", "foreign_landing_url": f"https://www.flickr.com/photos/x/{number}",
            "url": f"https://live.staticflickr.com/{number}_b.jpg", "creator": "x", "license": "by", "license_version": "2.0",
            "license_url": "https://creativecommons.org/licenses/by/2.0/", "provider": "flickr", "source": "flickr",
            "attribution": '"Hand" by x is licensed under CC BY 2.0.',
        }  # fmt: skip

    pages = [
        {"result_count": 3, "page_count": 2, "page": n, "results": [result(i) for i in found]}
        for n, found in ((1, (1, 2)), (2, (3,)))
    ]
    answer(server, "/v1/images/", *pages)
    items = list(search_openverse("hand", HTTP, 10, api=server.url("/v1/images/")))
    assert [item.uri[-7:-6] for item in items] == ["1", "2", "3"]
    assert items[2].column("licence") == "by 2.0" and items[2].column("page") == "https://www.flickr.com/photos/x/3"


@pytest.mark.parametrize("body", [b'{"error": {"code": "maxlag", "info": "lagged"}}', b"<html>", b"[]"])
def test_an_api_that_answers_otherwise_is_named(server, body):
    server.files["127.0.0.1", "/w/api.php"].append((200, {}, body))
    with pytest.raises(CollectionError, match=r"api\.php"):
        list(search_commons("x", replace(HTTP), 3, api=server.url("/w/api.php")))
