"""Every way of writing an address is one name, and names of different pictures stay different."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.names.url_names import (
    canonical_url,
    copyable_url,
    is_web,
    picture_names,
    remove_dot_segments,
    url_name,
)

NAME = "photos.example.com/a/b.jpg"


@pytest.mark.parametrize(
    "url",
    [
        "http://photos.example.com/a/b.jpg",
        "https://photos.example.com/a/b.jpg",
        "HTTPS://Photos.Example.COM/a/b.jpg",
        "http://photos.example.com:80/a/b.jpg",
        "https://photos.example.com:443/a/b.jpg",
        "http://photos.example.com/a/b.jpg#top",
        "http://photos.example.com/a/b.jpg?",
        "http://photos.example.com/a/./c/../b.jpg",
        "http://photos.example.com/a/%2e/b%2Ejpg",
        "http://photos.example.com/../%61/b.jpg",
        "http://photos.example.com\\a\\b.jpg",
        "  http://photos.example.com./a/b.jpg\n",
    ],
)
def test_variants_of_an_address_are_one_name(url):
    assert url_name(url) == NAME


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://h.example.com", "http://h.example.com/"),
        ("http://h.example.com/my photo.jpg", "http://h.example.com/my%20photo.jpg"),
        ("http://h.example.com/%c3%bc", "http://h.example.com/%C3%BC"),
        ("http://h.example.com/ü", "http://h.example.com/%C3%BC"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
        ("http://h.example.com:8080/A?b=C", "http://h.example.com:8080/A?b=C"),
        ("http://h.example.com/a%2Fb", "http://h.example.com/a%2Fb"),
        ("http://[2001:DB8::1]/a", "http://[2001:db8::1]/a"),
        ("https://h.example.com/a//b/", "https://h.example.com/a//b/"),
    ],
)
def test_the_canonical_spelling(url, canonical):
    assert canonical_url(url) == canonical == canonical_url(canonical)


@pytest.mark.parametrize("text", ["photos/a.jpg", "", "http://", "http://[::1", "http://h:99999999/a", "s3://b/A/../b"])
def test_what_is_no_web_address_stays(text):
    assert canonical_url(text) == text and url_name(text) in text


def test_different_pictures_have_different_names():
    urls = ["/a?x=1", "/a?x=2", "/a", "/A", "/a/", "/a%2Fb", "/a/b", "/a%3F", "//a"]
    assert len({url_name(f"http://h.example.com{url}") for url in urls}) == len(urls)
    assert url_name("http://h.example.com/a") != url_name("http://www.h.example.com/a")
    assert url_name("http://h.example.com:8080/a") != url_name("http://h.example.com/a")


def test_a_picture_goes_by_where_it_was_moved_from_and_who_answered():
    columns = {"url": "http://h.example.com/c", "moved_from": "https://old.example.com/m#x"}
    names = picture_names("http://h.example.com/c", columns, {"answered_by": "https://cdn.example.com/d"})
    assert names == {"h.example.com/c", "old.example.com/m", "cdn.example.com/d"}


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/a/b/c/./../../g", "/a/g"),  # RFC 3986, 5.2.4
        ("/mid/content=5/../6", "/mid/6"),
        ("/../../x", "/x"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.b/..c/...", "/a/.b/..c/..."),
        ("/a//../b", "/a/b"),
    ],
)
def test_dot_segments(path, resolved):
    assert remove_dot_segments(path) == resolved


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://h.example.com/", "HTTP://H.example.com/"]))
@settings(max_examples=300, deadline=None)
def test_no_text_raises_and_a_canonical_address_is_its_own(text, start):
    canonical = canonical_url(start + text)
    assert canonical_url(canonical) == canonical


def test_variants_of_an_address_are_one_input_and_other_names_stay_as_they_are():
    plain = SourceItem("http://h.example.com/a%20b.jpg")
    for uri in ("http://H.example.com:80/a b.jpg", "http://h.example.com/x/../a%20b.jpg#top"):
        assert SourceItem(uri).id == plain.id
    assert SourceItem("https://h.example.com/a%20b.jpg").id != plain.id
    assert SourceItem(" a.jpg").id != SourceItem("a.jpg").id
    assert SourceItem("http://h.example.com/a.jpg").id == "2f79d9251a9ae8e4"  # as before there were canonical names


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://a.org/my photo.jpg", "http://a.org/my%20photo.jpg"),
        ("https://a.org/x.jpg?q=a b ", "https://a.org/x.jpg?q=a%20b"),
        ('http://a.org/a<b>"c`{d}|e^\\f.jpg', "http://a.org/a%3Cb%3E%22c%60%7Bd%7D%7Ce%5E/f.jpg"),
        ("http://a.org/a\u00a0b\u3000c.jpg", "http://a.org/a%C2%A0b%E3%80%80c.jpg"),
        ("http://a.org/m%20y/日本.jpg?a=1&b=[2]#c", "http://a.org/m%20y/日本.jpg?a=1&b=[2]#c"),
        ("/photos/my photo.jpg", "/photos/my photo.jpg"),
    ],
)
def test_an_address_can_be_copied_and_names_the_same_picture(address: str, shown: str) -> None:
    assert copyable_url(address) == shown == copyable_url(shown)
    if is_web(address):
        assert SourceItem(address).origin == SourceItem(address).name == shown
        assert SourceItem(address).id == SourceItem(shown).id
        in_tar = SourceItem("crawl.tar", "a.jpg", 0, 9, (("url", address),))
        assert in_tar.origin == shown and in_tar.name == "crawl.tar#a.jpg"
