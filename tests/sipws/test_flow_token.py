"""Flow tokens name connections, and nobody can make one up."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import flow_token
from sipws.events import Connection
from sipws.registry import Registry

IDS = st.integers(0, 2**64 - 1)


class Held:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection


@given(IDS)
def test_a_token_reads_back_and_may_stand_in_a_sip_uri(connection_id: int) -> None:
    token = flow_token.make(connection_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{24}", token)
    assert flow_token.read(token) == connection_id


@given(IDS, st.integers(0, 23), st.sampled_from("AZaz09_-"))
def test_no_token_with_a_character_changed_is_read(
    connection_id: int, place: int, character: str
) -> None:
    token = flow_token.make(connection_id)
    changed = token[:place] + character + token[place + 1 :]
    assert flow_token.read(changed) == (connection_id if changed == token else None)


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda data: data.decode("latin-1")))
def test_no_text_that_is_no_token_raises(text: str) -> None:
    assert flow_token.read(text) is None


@pytest.mark.parametrize("more", ["!", "=", "\n", "ü", "A"])
def test_a_token_with_more_to_it_is_none(more: str) -> None:
    assert flow_token.read(flow_token.make(7) + more) is None


def test_tokens_of_another_process_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    token = flow_token.make(7)
    monkeypatch.setattr(flow_token, "_KEY", b"another")
    assert flow_token.read(token) is None


async def test_a_registry_finds_the_living_by_token(connection: Connection) -> None:
    registry: Registry[Held] = Registry()
    held = Held(connection)
    registry.add(held)
    token = flow_token.make(connection.id)
    assert registry.by_token(token) is held
    assert registry.by_token(flow_token.make(connection.id + 1)) is None
    assert registry.by_token("no token") is None
    registry.remove(held)
    assert registry.by_token(token) is None
