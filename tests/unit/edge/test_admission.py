"""Who may come in: from which networks, until when, how often; on the wire and on `/v1` alike."""

from datetime import timedelta
from math import inf

import pytest

from contracts import api_keys
from contracts.limits import Scoped
from services.edge.admission import Paces
from services.edge.caps import Pace
from tests.unit.edge.edge_app import NOW, PEER, PROXY, Edge, capped

pytestmark = pytest.mark.anyio

ME = "/v1/me"
HERE, ELSEWHERE = ["198.51.100.0/24"], ["203.0.113.0/24", "2001:db8::/32"]
ACCOUNT = Scoped(account_id="acme")
ANN = Scoped(account_id="acme", user_id="ann")


def of_key(key: api_keys.Key) -> Scoped:
    return Scoped(account_id="acme", key_id=key.key_id)


async def me(edge: Edge, key: api_keys.Key, peer: str | None = PEER, **headers: str) -> tuple[int, str]:
    """Ask `/v1/me`, and answer the status and the code."""
    found = await edge.call("GET", ME, credential=key.text, peer=peer, headers=headers)
    return found.status, found.json.get("code", "")


async def test_a_key_without_rules_passes_from_anywhere() -> None:
    edge = Edge()
    key = edge.issue()

    assert await me(edge, key) == (200, "")
    assert (await edge.pay(key.text, peer=None)).status == 200


async def test_a_key_is_refused_outside_of_its_networks() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(of_key(key), rules={"networks": HERE})

    assert (await edge.pay(key.text)).status == 200
    refused = await edge.pay(key.text, peer="203.0.113.5")

    assert refused.status == 403
    assert refused.json["error"]["message"].startswith("this key may not be used from 203.0.113.5 (")
    assert await me(edge, key, "203.0.113.5") == (403, "network_not_allowed")
    assert await me(edge, key, "::ffff:198.51.100.9") == (200, "")


async def test_no_address_is_in_no_network() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(of_key(key), rules={"networks": ["0.0.0.0/0", "::/0"]})

    assert await me(edge, key) == (200, "")
    assert await me(edge, key, None) == (403, "network_not_allowed")
    assert await me(edge, key, PROXY, **{"x-forwarded-for": "garbage"}) == (403, "network_not_allowed")


async def test_an_empty_list_of_networks_allows_none() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(of_key(key), rules={"networks": []})

    assert await me(edge, key) == (403, "network_not_allowed")


async def test_behind_a_trusted_proxy_its_word_counts() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(of_key(key), rules={"networks": HERE})

    assert await me(edge, key, PROXY, **{"x-forwarded-for": f"203.0.113.5, {PEER}"}) == (200, "")
    assert (await me(edge, key, "203.0.113.5", **{"x-forwarded-for": PEER}))[0] == 403


@pytest.mark.parametrize("scope", [ACCOUNT, ANN])
async def test_account_user_and_key_each_have_to_allow_it(scope: Scoped) -> None:
    edge = Edge()
    key = edge.issue(user_id="ann")
    edge.rule(of_key(key), rules={"networks": HERE})
    edge.rule(scope, rules={"networks": HERE + ELSEWHERE})

    assert await me(edge, key) == (200, "")
    edge.rule(scope, rules={"networks": ELSEWHERE})
    assert await me(edge, key) == (403, "network_not_allowed")


async def test_a_user_named_in_a_header_has_rules_too() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(ANN, rules={"networks": ELSEWHERE})

    assert (await edge.pay(key.text, headers={"clearinghouse-user": "ann"})).status == 403
    assert (await edge.pay(key.text, headers={"clearinghouse-user": "ben"})).status == 200


async def test_what_is_not_set_comes_from_the_plan_or_the_default_one() -> None:
    edge = Edge()
    key = edge.issue(user_id="ann")
    edge.rule("default", key_rules={"networks": ELSEWHERE})
    assert await me(edge, key) == (403, "network_not_allowed")

    edge.rule(ACCOUNT, plan="pro")
    assert await me(edge, key) == (200, "")

    edge.rule("pro", user_rules={"networks": ELSEWHERE})
    assert await me(edge, key) == (403, "network_not_allowed")

    edge.rule(ANN, rules={"networks": HERE})
    assert await me(edge, key) == (200, "")


async def test_an_expired_key_is_refused_for_good() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(of_key(key), rules={"expires_at": NOW + timedelta(seconds=1)})

    assert await me(edge, key) == (200, "")
    edge.clock.advance(timedelta(seconds=1))
    refused = await edge.pay(key.text)

    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert await me(edge, key) == (401, "key_expired")


@pytest.mark.parametrize("scope", [ACCOUNT, ANN])
async def test_the_first_end_of_all_scopes_counts(scope: Scoped) -> None:
    edge = Edge()
    key = edge.issue(user_id="ann")
    edge.rule(of_key(key), rules={"expires_at": NOW + timedelta(days=1)})
    edge.rule(scope, rules={"expires_at": NOW})

    assert await me(edge, key) == (401, "key_expired")


async def test_before_the_rules_are_loaded_nobody_is_let_in_or_sent_away() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rules.ready = False

    assert await me(edge, key) == (503, "unavailable")
    assert (await edge.pay(key.text)).status == 503


async def test_rules_that_cannot_be_read_let_nobody_in() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rules.entries[f"key.acme.{key.key_id}"] = b'{"rules": {"networks": ["nowhere"]}}'

    assert await me(edge, key) == (503, "unavailable")


async def test_over_the_cap_whoever_has_no_key_is_told_to_wait() -> None:
    edge = Edge(capped(per_second=0.5, burst=3))

    found = [await edge.pay("nonsense") for _ in range(5)]

    assert [answer.status for answer in found] == [401, 401, 401, 429, 429]
    assert found[4].headers["retry-after"] == "2"
    assert "without a valid API key" in found[4].json["error"]["message"]
    refused = await edge.call("GET", ME)
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")


async def test_over_the_cap_a_made_up_key_asks_nobody() -> None:
    edge = Edge(capped(per_second=0.001, burst=2))

    statuses = [(await edge.pay(api_keys.make().text)).status for _ in range(5)]

    assert statuses == [401, 401, 429, 429, 429]
    assert len(edge.asked) == 2


async def test_over_the_cap_valid_keys_pass_and_known_ones_learn_why_not() -> None:
    edge = Edge(capped(per_second=0.001, burst=1))
    key, revoked = edge.issue(), edge.issue()
    edge.put(revoked, "revoked")
    assert [(await edge.pay("nonsense")).status for _ in range(2)] == [401, 429]

    assert (await edge.pay(key.text)).status == 200
    assert await me(edge, revoked) == (401, "key_refused")


async def test_each_address_has_its_own_cap() -> None:
    edge = Edge(capped(per_second=0.001, burst=1))

    async def status(peer: str) -> int:
        return (await edge.pay("nonsense", peer=peer)).status

    assert [await status(PEER), await status("198.51.100.8"), await status(PEER)] == [401, 401, 429]
    assert [await status("2001:db8::1"), await status("2001:db8::2"), await status("2001:db8:0:1::1")] == [
        401,
        429,
        401,
    ]


async def test_a_key_that_pays_too_often_is_told_to_wait() -> None:
    edge = Edge(Paces(unknown=None, payments=Pace(per_second=0.25, burst=2)))
    key, other = edge.issue(), edge.issue()

    found = [await edge.pay(key.text) for _ in range(3)]

    assert [answer.status for answer in found] == [200, 200, 429]
    assert found[2].headers["retry-after"] == "4"
    assert found[2].json["error"]["message"].startswith("too many payments a second with this key (")
    assert (await edge.pay(other.text)).status == 200
    assert await me(edge, key) == (200, "")
    assert len(edge.gatherer.payments) == 3


@pytest.mark.parametrize(("of_process", "passing"), [(None, 12), (inf, 12), (1.0, 2)])
async def test_a_rule_bounds_here_twice_as_coarsely(of_process: float | None, passing: int) -> None:
    """Three a second are six here, for two seconds at once; unless the process allows less."""
    edge = Edge(Paces(unknown=None, payments=Pace(of_process, of_process * 2) if of_process else None))
    key = edge.issue()
    edge.rule(of_key(key), rules={"payments_per_second": 3})

    statuses = [(await edge.pay(key.text)).status for _ in range(passing + 1)]

    assert statuses[:passing] == [200] * passing
    assert statuses.count(429) <= 1
