"""What holds with every store: keys, scopes, limits, usage."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from access_helpers import NOON, Hands, allowed, ask, bearer, in_loop, opened

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.serving.access import LimitExceededError
from deepseek.serving.access.admin import usage_csv
from deepseek.serving.access.clock import DAY_SECONDS
from deepseek.serving.errors import AuthenticationError, PermissionDeniedError, QuotaExceededError, describe


@in_loop
async def test_a_key_opens_by_either_header_and_is_stored_hashed(store: str) -> None:
    async with opened(store) as control:
        issued = await control.admin.create("website", owner="ops", note="the first one")
        prefix, key_id, secret = issued.key.split("_", 2)
        assert (prefix, key_id) == ("ds", issued.record.id)
        assert len(secret) >= 43  # 256 bits in base64
        for headers in (
            bearer(issued.key),
            {"authorization": f"bearer {issued.key}"},
            {"x-api-key": issued.key},
            {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": issued.key},
        ):
            for _ in range(2):  # the second time from the verified ones
                assert control.authenticate(headers).key_id == key_id
        assert issued.key not in repr(issued)
    async with opened(store) as control:  # another server, or after a restart
        assert control.authenticate(bearer(issued.key)).key_id == key_id
        (record,) = await control.admin.keys()
        assert secret not in str(record)
        assert secret not in str(record.public(control.admin.now))
        assert record == issued.record


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Bearer ds_"},
        {"authorization": "Bearer ds_0011223344556677_" + "A" * 43},
        {"authorization": "Bearer ds_0011223344556677_" + "A" * 100_000},
        {"x-api-key": "sk-something"},
        {"x-api-key": "ds_\ud800_\ud800"},
        {"x-api-key": "ds_ключ_секрет"},
    ],
)
@in_loop
async def test_anything_else_does_not(sqlite_url: str, headers: dict[str, str]) -> None:
    async with opened(sqlite_url) as control:
        await control.admin.create("website")
        with pytest.raises(AuthenticationError, match="key") as raised:
            control.authenticate(headers)
        assert "AAAA" not in str(raised.value)


@in_loop
async def test_the_right_id_with_a_wrong_secret_does_not(store: str) -> None:
    async with opened(store) as control:
        one, other = [(await control.admin.create(name)).key for name in ("one", "other")]
        mixed = one[: one.index("_", 3)] + other[other.index("_", 3) :]
        with pytest.raises(AuthenticationError, match="not known"):
            control.authenticate(bearer(mixed))
        with pytest.raises(AuthenticationError):
            control.authenticate(bearer(one[:-1]))
        assert control.authenticate(bearer(one)).key_id != control.authenticate(bearer(other)).key_id


@in_loop
async def test_revoking_works_at_once_here_and_soon_elsewhere(store: str) -> None:
    async with opened(store) as here, opened(store) as there:
        issued = await here.admin.create("website")
        await there.sync()
        assert there.authenticate(bearer(issued.key)).key_id == issued.record.id
        record = await here.admin.revoke("website")
        with pytest.raises(AuthenticationError, match="revoked"):
            here.authenticate(bearer(issued.key))
        for _ in range(100):  # it hears of it by itself
            await asyncio.sleep(0.05)
            try:
                there.authenticate(bearer(issued.key))
            except AuthenticationError:
                break
        with pytest.raises(AuthenticationError, match="revoked"):
            there.authenticate(bearer(issued.key))
        assert (await here.admin.revoke(record.id)).revoked_at == record.revoked_at
        with pytest.raises(ConfigError, match="revoked"):
            await here.admin.rotate(record.id)


@in_loop
async def test_rotation_overlaps_and_keeps_what_was_taken(store: str) -> None:
    hands = Hands()
    async with opened(store, hands.clock) as control:
        first = await control.admin.create("website", plan="ten-rows")
        await ask(control, first.key, rows=8)
        second = await control.admin.rotate("website", dt.timedelta(hours=1))
        assert second.record.id == first.record.id
        for key in (first.key, second.key):
            assert control.authenticate(bearer(key)).key_id == first.record.id
            with pytest.raises(QuotaExceededError):
                await ask(control, key, rows=3)
        third = await control.admin.rotate("website", dt.timedelta(hours=1))
        with pytest.raises(AuthenticationError):  # two at most
            control.authenticate(bearer(first.key))
        control.authenticate(bearer(second.key))
        hands.pass_(3600)
        with pytest.raises(AuthenticationError, match="newer"):
            control.authenticate(bearer(second.key))
        fourth = await control.admin.rotate("website", dt.timedelta(0))
        with pytest.raises(AuthenticationError):
            control.authenticate(bearer(third.key))
        control.authenticate(bearer(fourth.key))


@in_loop
async def test_keys_expire(store: str) -> None:
    hands = Hands()
    async with opened(store, hands.clock) as control:
        issued = await control.admin.create("trial", lifetime=dt.timedelta(days=1))
        control.authenticate(bearer(issued.key))
        hands.pass_(DAY_SECONDS - 1)
        control.authenticate(bearer(issued.key))
        hands.pass_(1)
        with pytest.raises(AuthenticationError, match="expired"):
            control.authenticate(bearer(issued.key))
        assert issued.record.public(hands.wall)["state"] == "expired"


@in_loop
async def test_scopes_are_patterns(store: str) -> None:
    async with opened(store) as control:
        issued = await control.admin.create("narrow", models=["sentiment", "llm-*"])
        principal = control.authenticate(bearer(issued.key))
        assert [principal.allows(m) for m in ("sentiment", "llm-7b", "llm-", "Sentiment", "sentiment2", "llm")] == [
            True,
            True,
            True,
            False,
            False,
            False,
        ]
        with pytest.raises(PermissionDeniedError, match="'other'"):
            await ask(control, issued.key, "other")
        await ask(control, issued.key, "llm-7b")


@in_loop
async def test_requests_a_minute(store: str) -> None:
    async with opened(store) as control:
        key = (await control.admin.create("k", plan="three")).key
        other = (await control.admin.create("o", plan="three")).key
        assert await allowed(control, key, 10) == 3
        assert await allowed(control, other, 2) == 2  # keys do not share limits
        with pytest.raises(LimitExceededError, match=r"3 of 3 requests") as raised:
            await ask(control, key)
        error = raised.value
        assert (error.limit, error.used, error.allowed) == ("requests_per_minute", 3, 3)
        assert 55 < error.retry_after <= 60.2
        assert describe(error).http_status == 429


@in_loop
async def test_inferences_a_day(store: str) -> None:
    async with opened(store) as control:
        key = (await control.admin.create("k", plan="ten-rows")).key
        await ask(control, key, rows=7)
        with pytest.raises(LimitExceededError, match=r"7 of 10 inferences.*has 4.*00:00 UTC") as raised:
            await ask(control, key, rows=4)
        assert 0 < raised.value.retry_after <= DAY_SECONDS
        await ask(control, key, rows=3)  # a smaller one still fits, exactly
        with pytest.raises(LimitExceededError, match="10 of 10"):
            await ask(control, key)
        with pytest.raises(LimitExceededError, match="never"):
            await ask(control, key, rows=11)


@in_loop
async def test_tokens_a_day(store: str) -> None:
    async with opened(store) as control:
        key = (await control.admin.create("k", plan="hundred-tokens")).key
        await ask(control, key, tokens=(60, 39))
        await ask(control, key, tokens=(500, 0))  # one was left, and nobody knew what it would use
        with pytest.raises(LimitExceededError, match="599 of 100 tokens") as raised:
            await ask(control, key)
        assert raised.value.limit == "tokens_per_day"


@in_loop
async def test_a_refusal_takes_nothing(store: str) -> None:
    async with opened(store) as control:
        key = (await control.admin.create("k", plan="all")).key
        assert await allowed(control, key, 5, rows=11) == 0
        assert await allowed(control, key, 3, rows=3) == 3
        with pytest.raises(LimitExceededError):
            await ask(control, key)


@in_loop
async def test_no_limits_no_waiting(store: str) -> None:
    async with opened(store) as control:
        principal = control.authenticate(bearer((await control.admin.create("k", plan="unlimited")).key))
        assert control.admit(principal, "sentiment", 10**9) is None


@in_loop
async def test_limits_last_over_a_restart(store: str) -> None:
    async with opened(store) as control:
        minute = (await control.admin.create("m", plan="three")).key
        rows = (await control.admin.create("r", plan="ten-rows")).key
        tokens = (await control.admin.create("t", plan="hundred-tokens")).key
        await ask(control, minute)
        await ask(control, minute)
        await ask(control, rows, rows=9)
        await ask(control, tokens, tokens=(50, 50))
    async with opened(store) as control:
        assert await allowed(control, minute, 5) == 1
        assert await allowed(control, rows, 5) == 1
        assert await allowed(control, tokens, 5) == 0


@in_loop
async def test_usage_by_key_model_and_day(store: str) -> None:
    hands = Hands()
    async with opened(store, hands.clock) as control:
        one = await control.admin.create("one", plan="unlimited")
        two = await control.admin.create("=two", plan="all")
        await ask(control, one.key, "a", rows=2, tokens=(3, 4))
        await ask(control, one.key, "a", rows=5, tokens=(30, 40))
        await ask(control, one.key, "org/b c")
        assert await allowed(control, two.key, 9, model="a") == 3
        hands.pass_(DAY_SECONDS)
        await ask(control, one.key, "a", rows=1)
        principal = control.authenticate(bearer(one.key))
        assert control.admit(principal, "a", 1) is None  # admitted, never answered: not in the usage
        await control.sync()
        day = dt.datetime.fromtimestamp(NOON, dt.UTC).date()
        found = await control.admin.usage(day, day + dt.timedelta(days=1))
        assert [(u.day, u.key_name, u.model, *_counts(u)) for u in found if u.day > day] == [
            (day + dt.timedelta(days=1), "one", "a", 1, 1, 0, 0, 0)
        ]
        first = {(u.key_name, u.model): _counts(u) for u in found if u.day == day}
        assert first == {
            ("one", "a"): (2, 7, 33, 44, 0),
            ("one", "org/b c"): (1, 1, 0, 0, 0),
            ("=two", "a"): (3, 3, 0, 0, 6),
        }
        assert [u.model for u in await control.admin.usage(day, day, key="one", model="a")] == ["a"]
        lines = usage_csv(found).splitlines()
        assert lines[0].startswith("day,key_id,key_name,model,requests,inferences,")
        assert f"{day},{one.record.id},one,a,2,7,33,44,0" in lines
        assert any(",'=two," in line for line in lines)  # no formula for a spreadsheet
        with pytest.raises(UnknownNameError, match="one"):
            await control.admin.usage(day, day, key="onne")
        with pytest.raises(ConfigError, match="before"):
            await control.admin.usage(day, day - dt.timedelta(days=1))


def _counts(usage: object) -> tuple[int, ...]:
    names = ("requests", "inferences", "input_tokens", "output_tokens", "refused")
    return tuple(getattr(usage, name) for name in names)


@in_loop
async def test_mistakes_of_an_operator(store: str) -> None:
    async with opened(store) as control:
        admin = control.admin
        with pytest.raises(UnknownNameError, match="unlimited"):
            await admin.create("k", plan="unlimmited")
        for wrong in ({"name": " "}, {"name": "x" * 201}, {"name": "a\nb"}, {"name": "k", "models": []}):
            with pytest.raises(ConfigError, match="expected"):
                await admin.create(**wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="above zero"):
            await admin.create("k", lifetime=dt.timedelta(0))
        first = await admin.create("twin")
        second = await admin.create("twin")
        with pytest.raises(ConfigError, match=second.record.id):
            await admin.revoke("twin")
        await admin.revoke(first.record.id)
        assert (await admin.revoke("twin")).id == second.record.id  # the other one is over already
        with pytest.raises(UnknownNameError):
            await admin.rotate("nobody")
        with pytest.raises(ConfigError, match="overlap"):
            await admin.rotate("twin", dt.timedelta(-1))
    # a server whose configuration lacks the plan of a key says so, and lets nobody in
    from deepseek.serving.access import AccessConfig, AccessControl

    async with opened(store) as control:
        key = (await control.admin.create("k", plan="three")).key
    bare = await AccessControl.open(AccessConfig(store=store))
    with pytest.raises(PermissionDeniedError, match="'three'"):
        bare.authenticate(bearer(key))
    await bare.close()


@in_loop
async def test_changes_at_the_same_time_do_not_overwrite_each_other(store: str) -> None:
    async with opened(store) as one, opened(store) as two:
        issued = await one.admin.create("k")
        await asyncio.gather(
            *(control.admin.rotate(issued.record.id) for control in (one, two) for _ in range(5)),
            one.admin.revoke(issued.record.id),
            return_exceptions=True,
        )
        (record,) = await one.admin.keys()
        assert record.revoked_at is not None
