"""The access middleware, with an application that counts what gets through."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from autotuner.service.access import (
    AccessMiddleware,
    AccessRules,
    HTTPScope,
    Receive,
    Send,
    host_name,
    host_names,
)
from autotuner.service.limits import Limiter, Throttle
from autotuner.service.login import SESSION_S, Login, LoginPage, Sessions, local_path
from autotuner.service.tokens import Scope, Token, TokenCache, create_token, revoke_token

PAGE = LoginPage(path="/login", cookie="c", title="t", hint="h")
READER = Token(key="r", name="reader", scopes=frozenset({Scope.READ}), created="")


async def application(scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Answer with the name of the token."""
    body = scope["state"]["submitted_by"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(
    method: str = "GET",
    path: str = "/",
    *,
    login: Login | None = None,
    rules: dict[str, Any] | None = None,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Return the answer to one request."""
    usual = {"hosts": frozenset({"localhost"}), "origins": frozenset({"ours.example"})}
    known = AccessRules(**{**usual, "needs_token": login is not None, **(rules or {})})
    app = AccessMiddleware(application, rules=known, login=login)

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:1") as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(answer())


def login(*valid: str, sessions: Sessions | None = None, is_guessable: bool = False) -> Login:
    """Return a login with valid tokens, all of them a reader's."""

    async def find(given: str) -> Token | None:
        return READER if given in valid else None

    return Login(
        page=PAGE,
        find_token=find,
        is_guessable=is_guessable,
        sessions=sessions or Sessions(),
    )


@pytest.mark.parametrize(
    ("rules", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, {"host": "evil.example"}, 421),
        ({"unknown_host": HTTPStatus.FORBIDDEN}, {"host": "evil.example"}, 403),
        ({}, {"origin": "http://localhost:1"}, 200),
        ({}, {"origin": "http://localhost:2"}, 403),
        ({}, {"origin": "https://ours.example"}, 200),
        ({}, {"origin": "null"}, 403),
        ({}, {"x": "x" * 20_000}, 431),
        ({"most_body_bytes": 9}, {"content-length": "10"}, 413),
        *(({}, {"origin": odd}, 403) for odd in ("http://[", "://", "http://[::1", "http://a:b:c")),
        ({"per_minute": 1}, {}, 200),
        ({"per_minute": 0.5}, {}, 429),
    ],
)
def test_requests_without_tokens(
    rules: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    """Host, origin, size and rate are checked whether there are tokens or not."""
    assert ask(rules=rules, headers=headers).status_code == status


def test_tokens_and_scopes() -> None:
    """No token, a wrong one, a reader's; reads and writes."""
    bearer = {"authorization": "Bearer good"}
    assert ask(login=login("good")).status_code == 401
    assert ask(login=login("good"), headers={"authorization": "Bearer bad"}).status_code == 401
    assert ask(login=login("good"), headers={"authorization": "Basic good"}).status_code == 401
    assert ask(login=login("good"), headers=bearer).text == "reader"
    assert ask("POST", login=login("good"), headers=bearer).status_code == 403
    refused = ask("POST", rules={"read_only": True, "reason_field": "reason"})
    assert "read-only" in refused.json()["reason"]


def test_a_session_ends_with_its_token() -> None:
    """Its cookie leads to the application while the token is valid, and then to the login page."""
    sessions = Sessions()
    logged_in = ask(
        "POST", "/login?next=/a%3Fb", login=login("good", sessions=sessions), content=b"token=good"
    )
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, "/a?b")
    cookie = logged_in.headers["set-cookie"].partition(";")[0]
    browser = {"cookie": cookie, "accept": "text/html"}
    assert ask(login=login("good", sessions=sessions), headers=browser).text == "reader"
    redirected = ask(path="/a?b=1", login=login(sessions=sessions), headers=browser)
    assert redirected.headers["location"] == "/login?next=%2Fa%3Fb%3D1"
    assert ask("DELETE", "/login", login=login()).status_code == 405


def test_a_session_ends_after_a_day_and_by_a_logout() -> None:
    """Its cookie is worth nothing afterwards; only a POST ends it early."""
    now = 0.0
    sessions = Sessions(lambda: now)
    known = login("good", sessions=sessions)

    def logged_in() -> bool:
        return ask(login=known, headers={"cookie": f"c={session}"}).status_code == 200

    session = sessions.begin("good")
    now = SESSION_S - 1.0
    assert logged_in()
    now = float(SESSION_S)
    assert not logged_in()

    session = sessions.begin("good")
    assert ask("GET", "/login/out", login=known).status_code == 405
    assert logged_in()
    out = ask("POST", "/login/out", login=known, headers={"cookie": f"c={session}"})
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert not logged_in()


def test_no_site_can_frame_a_page() -> None:
    """Neither a page, nor the login page, nor a refusal."""
    known = login("good")
    answers = (
        ask(login=known, headers={"authorization": "Bearer good"}),
        ask(path="/login", login=known),
        ask(login=known),
    )
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    assert {answer.headers["x-frame-options"] for answer in answers} == {"DENY"}


@pytest.mark.parametrize("target", ["//[", "http://[", "/%00", "\ud800", "/%5B%5B"])
def test_a_login_page_for_any_path(target: str) -> None:
    """A path that can't be read leads to the first page, before and after the login."""
    address = "/login?" + urlencode({"next": target}, errors="surrogatepass")
    assert ask(path=address, login=login()).status_code == 200
    done = ask("POST", address, login=login("good"), content=b"token=good")
    assert done.status_code == 303
    assert done.headers["location"].startswith("/")


def test_the_login_page_has_a_logout_for_those_who_are_logged_in() -> None:
    """Its button sends the form that ends the session."""
    known = login("good")
    session = known.sessions.begin("good")
    button = '<form method="post" action="/login/out">'
    assert button not in ask(path="/login", login=known).text
    assert button in ask(path="/login", login=known, headers={"cookie": f"c={session}"}).text


def test_strangers_wait_and_tokens_don_t() -> None:
    """An address without a valid token soon gets 429; its valid token goes on, to its own limit."""
    rules = AccessRules(
        hosts=frozenset({"localhost"}),
        origins=frozenset(),
        needs_token=True,
        per_minute=4,
        refused_per_minute=2,
    )
    app = AccessMiddleware(application, rules=rules, login=login("good"))

    async def knock() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            bad, good = ({"authorization": f"Bearer {one}"} for one in ("bad", "good"))
            codes = []
            for headers in ({}, bad, bad, {}, *[good] * 5):
                codes.append((await client.get("/", headers=headers)).status_code)
            return [*codes, (await client.get("/login")).status_code]

    assert asyncio.run(knock()) == [401, 401, 429, 429, 200, 200, 200, 200, 429, 429]


def test_tokens_are_read_once_a_second() -> None:
    """A new token is known at once, a revoked one within a second; guesses cost few reads."""
    now, reads = 0.0, 0
    stored: dict[str, Any] = {}

    class Store:
        def attributes(self) -> Mapping[str, Any]:
            nonlocal reads
            reads += 1
            return dict(stored)

        def set_attribute(self, name: str, value: object) -> None:
            stored[name] = value

    store: Any = Store()
    cache = TokenCache(store.attributes, lambda: now)
    first = create_token(store, "first", {Scope.READ})
    assert asyncio.run(cache.find(first)) is not None
    for _ in range(100):
        assert asyncio.run(cache.find(first)) is not None
        assert asyncio.run(cache.find("at_0123456789ab_" + "x" * 43)) is None
    assert reads == 1
    second = create_token(store, "second", {Scope.READ})
    now = 0.2

    async def many() -> list[Token | None]:
        return await asyncio.gather(*(cache.find(second) for _ in range(20)))

    assert None not in asyncio.run(many())
    assert reads == 2  # by one of those that ask at once
    assert asyncio.run(cache.find(second)) is not None
    assert revoke_token(store, first.split("_")[1])
    now = 1.2
    assert asyncio.run(cache.find(first)) is None
    assert asyncio.run(cache.find(second)) is not None


def test_tokens_can_t_be_guessed_for_long() -> None:
    """After twenty wrong ones the address waits, on the page too; valid sessions don't."""
    sessions = Sessions()
    session = sessions.begin("good")
    rules = AccessRules(hosts=frozenset({"localhost"}), origins=frozenset(), needs_token=True)
    app = AccessMiddleware(
        application, rules=rules, login=login("good", sessions=sessions, is_guessable=True)
    )

    async def guess() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            wrong = {"authorization": "Bearer bad"}
            codes = [(await client.get("/", headers=wrong)).status_code for _ in range(21)]
            page = await client.post("/login", content=b"token=bad")
            valid = await client.get("/", headers={"authorization": "Bearer good"})
            browser = await client.get("/", headers={"cookie": f"c={session}"})
            return [*codes, page.status_code, valid.status_code, browser.status_code]

    assert asyncio.run(guess()) == [*[401] * 20, 429, 429, 429, 200]


def test_a_flood_of_messages_is_logged_in_part() -> None:
    """The first ones are written; after the gap a message says how many are left out."""
    now = 0.0
    throttle, written = Throttle(2, lambda: now), []
    logger = logging.Logger("flooded")
    handler = logging.Handler()
    handler.addFilter(throttle)
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    for number in range(5):
        logger.warning("refused %d", number)
    now = 60.0
    logger.warning("refused %d", 5)
    logger.warning("refused %d", 6)
    assert written == ["refused 0", "refused 1", "(3 messages left out) refused 5", "refused 6"]


def test_the_limiter() -> None:
    """A minute's requests at once, then as many as time brings; each address by itself."""
    now = 0.0
    limiter = Limiter(60, lambda: now)
    assert [limiter.allows("a") for _ in range(61)] == [True] * 60 + [False]
    assert limiter.allows("b")
    now = 1.5
    assert [limiter.allows("a") for _ in range(2)] == [True, False]


def test_names() -> None:
    """Host headers without ports, in lower case; nothing for what is none."""
    assert host_name("Tuner.Example:80") == "tuner.example"
    assert host_name("[::1]:80") == "[::1]"
    assert host_name("a@b") == ""
    assert host_names(["A:1", "a b", ""]) == {"a"}


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a?b=c", "/a?b=c"),
        ("/ä", "/%C3%A4"),
        ("", "/"),
        ("//evil", "/"),
        ("/\\evil", "/"),
        ("http://evil", "/"),
        ("/a\r\nX: y", "/"),
        ("//[", "/"),
    ],
)
def test_a_login_leads_to_our_own_paths(target: str, path: str) -> None:
    """A link to the login page can't lead to another site, or forge a header."""
    assert local_path(target) == path
