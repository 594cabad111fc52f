"""The ladder: which addresses are one party, and what stands at the arrows."""

import dataclasses
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.view.model.ladder import ladder
from hep.view.model.picture import Ladder
from hep.view.model.record import Kind, Record, read_sip
from hep.view.model.summary import ConnectionSummary

from .talks import ALICE, BOB, LEG, SDP, SERVER, START, UP, Talk, legs, relayed

LOGGED = f"WebSocket connection 7 {ALICE} > {SERVER} (Call-ID c1@10.1.2.3)"


def arrows(picture: Ladder) -> list[str]:
    names = [party.name for party in picture.parties]
    return [
        f"{names[each.source]} > {names[each.destination]}: {each.label}" for each in picture.steps
    ]


def columns(picture: Ladder) -> list[list[str]]:
    return [sorted(party.addresses) for party in picture.parties]


@pytest.mark.parametrize("connections", [legs(), []], ids=["events", "messages"])
def test_both_legs_of_a_relayed_call_are_one_picture(connections: list[ConnectionSummary]) -> None:
    picture = ladder(relayed().records, connections)
    assert columns(picture) == [[ALICE], sorted([SERVER, LEG]), [UP]]
    assert [party.role for party in picture.parties] == ["phone", "server", "upstream"]
    assert [party.name for party in picture.parties] == ["alice", SERVER, UP]
    assert picture.parties[0].user_agent in ("JsSIP 3.10",)
    assert picture.parties[2].user_agent == "Kamailio/5.6"
    sip = [step for step in picture.steps if step.kind == "sip"]
    offset = len(picture.steps) - len(sip)
    assert [step.copy_of for step in sip[1::2]] == [n + offset for n in range(0, 14, 2)]
    assert all(step.copy_of is None and step.retransmission_of is None for step in sip[::2])


def test_relays_on_one_host_are_kept_apart_from_phones() -> None:
    talk = relayed()
    names = {
        ALICE: "127.0.0.1:1001",
        SERVER: "127.0.0.1:8080",
        LEG: "127.0.0.1:1002",
        UP: "127.0.0.1:5060",
    }
    local = [
        dataclasses.replace(each, src=names[each.src], dst=names[each.dst]) for each in talk.records
    ]
    picture = ladder(local, [])
    assert columns(picture) == [
        ["127.0.0.1:1001"],
        ["127.0.0.1:1002", "127.0.0.1:8080"],
        ["127.0.0.1:5060"],
    ]


def test_a_proxy_that_adds_a_via_is_one_party_with_two_addresses() -> None:
    talk = Talk()
    first, second = "WSS a1.invalid;branch=z9a", "UDP 192.168.7.1:5060;branch=z9p"
    talk.request(ALICE, SERVER, "INVITE", body=SDP, via=[first])
    talk.answer(SERVER, ALICE, "100 Trying", via=[first], tags=("fa", ""), server="OpenSIPS (3.6)")
    talk.request("192.168.7.1:5060", BOB, "INVITE", body=SDP, via=[second, first])
    talk.answer(BOB, "192.168.7.1:5060", "180 Ringing", via=[second, first], agent="Zoiper")
    talk.answer(SERVER, ALICE, "180 Ringing", via=[first], agent="Zoiper")
    picture = ladder(talk.records, [])
    assert columns(picture) == [[ALICE], ["192.168.7.1:5060", SERVER], [BOB]]
    assert [party.role for party in picture.parties] == ["phone", "server", "phone"]
    assert [party.name for party in picture.parties] == ["alice", SERVER, "bob"]
    assert [party.user_agent for party in picture.parties] == [
        "JsSIP 3.10",
        "OpenSIPS (3.6)",
        "Zoiper",
    ]
    assert [step.copy_of for step in picture.steps] == [None, None, 0, None, 3]


def test_a_proxys_own_100_is_no_copy_of_the_next_hops() -> None:
    talk = Talk()
    first, second = "WSS a1.invalid;branch=z9a", "UDP 192.168.7.1:5060;branch=z9p"
    talk.request(ALICE, SERVER, "INVITE", via=[first])
    talk.request("192.168.7.1:5060", BOB, "INVITE", via=[second, first])
    talk.answer(BOB, "192.168.7.1:5060", "100 Trying", via=[second, first], tags=("fa", ""))
    talk.answer(SERVER, ALICE, "100 Trying", via=[first], tags=("fa", ""))
    assert [step.copy_of for step in ladder(talk.records, []).steps] == [None, 0, None, None]


def test_the_callee_stands_at_the_right_of_the_upstream() -> None:
    talk = Talk()
    first, second, leg = (
        "WSS a1.invalid;branch=z9a",
        "WS 172.16.9.9;branch=z9p",
        "192.168.7.1:45002",
    )
    invite = talk.request(ALICE, SERVER, "INVITE", via=[first])
    talk.raw(LEG, UP, invite)
    invite = talk.request(UP, leg, "INVITE", via=[second, first])
    talk.raw(SERVER, BOB, invite)
    ringing = talk.answer(BOB, SERVER, "180 Ringing", via=[second, first], agent="SIP.js")
    talk.raw(leg, UP, ringing)
    ringing = talk.answer(UP, LEG, "180 Ringing", via=[first], agent="SIP.js")
    talk.raw(SERVER, ALICE, ringing)
    picture = ladder(talk.records, [])
    assert columns(picture) == [[ALICE], sorted([SERVER, LEG, leg]), [UP], [BOB]]
    assert [party.role for party in picture.parties] == ["phone", "server", "upstream", "phone"]
    assert [step.copy_of for step in picture.steps] == [None, 0, 1, 2, None, 4, 5, 6]


def test_a_b2bua_that_keeps_the_call_id_is_one_party() -> None:
    talk = Talk()
    talk.request(ALICE, "10.9.9.9:5060", "INVITE", body=SDP, via=["UDP 10.1.2.3;branch=z9a"])
    talk.request(
        "10.9.9.9:5080",
        BOB,
        "INVITE",
        body=SDP,
        via=["UDP 10.9.9.9:5080;branch=z9x"],
        agent="Asterisk",
    )
    picture = ladder(talk.records, [])
    assert columns(picture) == [[ALICE], ["10.9.9.9:5060", "10.9.9.9:5080"], [BOB]]
    assert picture.steps[1].copy_of == 0


def test_a_hop_that_was_not_captured_joins_nobody() -> None:
    # alice > a, (a > b is missing), b > bob: the Vias say that there is one more between them.
    talk = Talk()
    talk.request("127.0.0.1:1", "127.0.0.1:2", "INVITE", via=["UDP a;branch=z9a"])
    talk.request(
        "127.0.0.1:3",
        "127.0.0.1:4",
        "INVITE",
        via=["UDP c;branch=z9c", "UDP b;branch=z9b", "UDP a;branch=z9a"],
    )
    talk.answer(
        "127.0.0.1:4",
        "127.0.0.1:3",
        "200 OK",
        via=["UDP c;branch=z9c", "UDP b;branch=z9b", "UDP a;branch=z9a"],
    )
    talk.answer("127.0.0.1:2", "127.0.0.1:1", "200 OK", via=["UDP a;branch=z9a"])
    assert len(ladder(talk.records, []).parties) == 4


def test_a_phone_that_connects_again_is_one_party() -> None:
    talk = Talk()
    contact = ["Contact: <sip:x@a1.invalid;transport=ws>"]
    talk.request(ALICE, SERVER, "REGISTER", to="alice", more=contact)
    talk.request(
        "10.1.2.3:41999",
        SERVER,
        "REGISTER",
        2,
        to="alice",
        more=contact,
        tags=("fz", ""),
        via=["WSS zz;branch=z9r"],
    )
    picture = ladder(talk.records, [])
    assert columns(picture) == [[ALICE, "10.1.2.3:41999"], [SERVER]]
    assert picture.parties[0].role == "phone"
    assert picture.parties[1].role == "server"


def test_a_phone_that_connects_again_is_known_by_user_agent_and_ip_address() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "REGISTER", to="alice", via=["WSS x1;branch=z9r"])
    talk.request(
        "10.1.2.3:41999",
        SERVER,
        "REGISTER",
        2,
        to="alice",
        tags=("fz", ""),
        via=["WSS x2;branch=z9r"],
    )
    talk.request(
        "10.1.2.4:41999",
        SERVER,
        "REGISTER",
        3,
        to="alice",
        tags=("fy", ""),
        via=["WSS x3;branch=z9r"],
    )
    talk.request(
        "10.1.2.3:42000",
        SERVER,
        "REGISTER",
        3,
        to="alice",
        tags=("fx", ""),
        via=["WSS x4;branch=z9r"],
        agent="other",
    )
    assert columns(ladder(talk.records, [])) == [
        [ALICE, "10.1.2.3:41999"],
        [SERVER],
        ["10.1.2.4:41999"],
        ["10.1.2.3:42000"],
    ]


def test_two_phones_of_a_user_behind_one_ip_address_are_two_parties() -> None:
    # A forked call: the first declines before the second rings. Their tags differ.
    talk = Talk()
    one, two = "10.5.6.7:1", "10.5.6.7:2"
    for phone, branch in ((one, "z9p"), (two, "z9q")):
        talk.request(
            SERVER, phone, "INVITE", via=[f"WSS s;branch={branch}", "WSS a1.invalid;branch=z9a"]
        )
    talk.answer(
        one,
        SERVER,
        "486 Busy Here",
        via=["WSS s;branch=z9p", "WSS a1.invalid;branch=z9a"],
        tags=("fa", "t1"),
        agent="JsSIP",
    )
    talk.answer(
        two,
        SERVER,
        "180 Ringing",
        via=["WSS s;branch=z9q", "WSS a1.invalid;branch=z9a"],
        tags=("fa", "t2"),
        agent="JsSIP",
    )
    assert [one] in columns(ladder(talk.records, []))
    assert [two] in columns(ladder(talk.records, []))


def test_alice_and_bob_on_one_host_with_the_same_product_are_two_parties() -> None:
    talk = Talk()
    for user, port in (("alice", 1), ("bob", 2)):
        talk.request(
            f"127.0.0.1:{port}",
            "127.0.0.1:9",
            "REGISTER",
            port,
            user=user,
            to=user,
            tags=(user, ""),
            via=["WSS x;branch=z9r"],
        )
    assert len(ladder(talk.records, []).parties) == 3


def test_two_windows_of_a_user_are_two_parties_while_both_send() -> None:
    talk = Talk()
    for number, port in enumerate((1, 2, 1, 2), 1):
        talk.request(
            f"10.1.2.3:{port}", SERVER, "REGISTER", number, to="alice", tags=(f"f{port}", ""),
            via=[f"WSS x{port};branch=z9{number}"],
        )  # fmt: skip
    assert columns(ladder(talk.records, [])) == [["10.1.2.3:1"], [SERVER], ["10.1.2.3:2"]]


def test_parties_that_talk_to_each_other_are_never_one() -> None:
    talk = Talk()
    talk.request("127.0.0.1:1", "127.0.0.1:2", "INVITE", via=["UDP 127.0.0.1:2;branch=z9a"])
    assert len(ladder(talk.records, []).parties) == 2


def test_a_request_comes_from_the_party_that_listens_where_its_via_says() -> None:
    talk = Talk()
    talk.request("127.0.0.1:1", "127.0.0.1:9", "INVITE", via=["TCP 127.0.0.1:5070;branch=z9a"])
    talk.request(
        "127.0.0.1:9", "127.0.0.1:5070", "BYE", 9, via=["TCP z;branch=z9b"], tags=("x", "fa")
    )
    assert ["127.0.0.1:1", "127.0.0.1:5070"] in columns(ladder(talk.records, []))


def test_superseded_connections_are_one_phone() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "OPTIONS", via=["WSS x1;branch=z9r"])
    talk.event('{"Event":"SUPERSEDED","Status":"FAILURE","Instance":"i","Superseded_By":"9"}')
    talk.request(
        "10.77.2.3:9", SERVER, "OPTIONS", 2, tags=("fz", ""), via=["WSS x2;branch=z9r"], agent="b"
    )
    known = [
        ConnectionSummary("7", peer=ALICE, local=SERVER, since=1),
        ConnectionSummary("9", peer="10.77.2.3:9", local=SERVER, since=1),
    ]
    picture = ladder(talk.records, known)
    assert columns(picture)[0] == [ALICE, "10.77.2.3:9"]
    assert "alice > " + SERVER + ": superseded" in arrows(picture)


def test_the_server_has_the_name_that_its_handshake_states() -> None:
    talk = relayed()
    reply = "HTTP/1.1 101 Switching Protocols\r\nServer: sipws/0.1\r\n\r\n"
    talk.event(json.dumps({"Event": "ACCEPTED", "Status": "SUCCESS", "Ws-Reply": reply}))
    assert ladder(talk.records, legs()).parties[1].name == "sipws"


def test_labels_and_details_say_what_a_message_is_about() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE", body=SDP)
    talk.answer(SERVER, ALICE, "200 OK", body=SDP)
    talk.request(ALICE, SERVER, "REFER", 2, more=["Refer-To: <sip:carol@example.com>"])
    talk.request(ALICE, SERVER, "BYE", 3, more=['Reason: Q.850;cause=16;text="normal"'])
    talk.request(ALICE, SERVER, "REGISTER", 4, more=["Contact: <sip:a@b>;expires=60, <sip:a@c>"])
    talk.request(ALICE, SERVER, "REGISTER", 5, more=["Contact: *", "Expires: 0"])
    talk.answer(SERVER, ALICE, "401 Unauthorized", "REGISTER", 5)
    said = [(step.label, step.detail, step.tone) for step in ladder(talk.records, []).steps]
    assert said == [
        ("INVITE", "SDP", "info"),
        ("200 OK", "CSeq 1 INVITE, SDP", "good"),
        ("REFER", "refer to sip:carol@example.com", "info"),
        ("BYE", 'reason Q.850;cause=16;text="normal"', "info"),
        ("REGISTER", "2 contacts, expires 60", "info"),
        ("REGISTER", "removes all contacts", "info"),
        ("401 Unauthorized", "CSeq 5 REGISTER", "quiet"),
    ]


def test_retransmissions_are_marked_on_each_leg() -> None:
    talk = Talk()
    invite = talk.request(ALICE, SERVER, "INVITE", body=SDP)
    talk.raw(LEG, UP, invite)
    talk.raw(ALICE, SERVER, invite, after=0.5)
    talk.raw(LEG, UP, invite)
    talk.answer(UP, LEG, "180 Ringing", tags=("fa", "t1"))
    talk.answer(UP, LEG, "180 Ringing", tags=("fa", "t2"))
    steps = ladder(talk.records, []).steps
    assert [step.retransmission_of for step in steps] == [None, None, 0, 1, None, None]
    assert [step.copy_of for step in steps] == [None, 0, None, 2, None, None]


def test_a_message_that_two_agents_captured_is_shown_once() -> None:
    talk = Talk()
    invite = talk.request(ALICE, SERVER, "INVITE")
    talk.raw(ALICE, SERVER, invite, agent=2)
    talk.raw(ALICE, SERVER, invite, agent=2, after=2)
    assert [step.retransmission_of for step in ladder(talk.records, []).steps] == [None, 0]


def test_events_stand_between_the_messages() -> None:
    talk = Talk()
    talk.event('{"Protocol":"WSS","Event":"ACCEPTED","Status":"SUCCESS","User_Agent":"ua"}')
    talk.request(ALICE, SERVER, "INVITE")
    talk.event('{"Event":"ERROR","Status":"FAILURE","Error":"ping-timeout","Message":"no pong"}')
    talk.event('{"Event":"CLOSED","Status":"FAILURE","Close_Code":"1006","Closed_By":"peer"}')
    talk.log(f"{LOGGED} closed 1006 by the peer after 1.000 s")
    talk.log(f"{LOGGED} ping-timeout: no pong")
    talk.event(
        '{"Event":"ACCEPTED","Status":"FAILURE","Error":"no-origin","Reply_Code":"403",'
        '"Error_Detail":"none"}',
        src="10.1.2.3:2",
        connection="9",
    )
    picture = ladder(talk.records, [])
    assert [(step.kind, step.label, step.detail, step.tone) for step in picture.steps] == [
        ("event", "opened", "WSS ua", "good"),
        ("sip", "INVITE", "", "info"),
        ("event", "error ping-timeout", "no pong", "bad"),
        ("event", "closed 1006 by the peer", "", "bad"),
        ("event", "refused 403 no-origin", "none", "bad"),
    ]
    assert picture.left_out == 0


def test_a_log_line_says_what_no_event_says() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE")
    talk.log(f"{LOGGED} closed 1006 by the peer after 1.000 s: gone")
    talk.log("something else", "", "")
    steps = ladder(talk.records, []).steps
    assert [(step.kind, step.label, step.detail) for step in steps[1:]] == [
        ("log", "closed 1006 by the peer after 1.000 s", "gone"),
        ("log", "log", "something else"),
    ]
    assert (steps[1].source, steps[1].destination) == (0, 1)


def test_the_end_of_a_connection_is_known_from_its_summary() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE")
    known = ConnectionSummary(
        "7",
        "WSS",
        ALICE,
        SERVER,
        since=START - 3_600_000_000,
        until=START + 2_000_000,
        state="closed",
        code=1006,
        closed_by="peer",
    )
    picture = ladder(talk.records, [known])
    assert arrows(picture) == [
        f"alice > {SERVER}: INVITE",
        f"alice > {SERVER}: closed 1006 by the peer",
    ]


def test_a_log_line_is_left_out_if_the_summary_says_it() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE")
    talk.log(f"{LOGGED} closed 1006 by the peer after 1.000 s")
    known = ConnectionSummary(
        "7", "WSS", ALICE, SERVER, since=1, until=START + 20_000, state="closed", code=1006
    )
    labels = [step.label for step in ladder(talk.records, [known]).steps]
    assert labels == ["INVITE", "closed 1006"]


def test_opensips_events_without_addresses_are_placed_by_their_connection() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE")
    talk.event("WS:CLOSED:SUCCESS:EOF received", "127.0.0.2:0", "127.0.0.2:0")
    picture = ladder(talk.records, legs())
    assert len(picture.parties) == 3
    assert (arrows(picture)[-1], picture.steps[-1].detail) == (
        f"alice > {SERVER}: closed",
        "EOF received",
    )


def test_keepalives_are_left_out_and_counted() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE")
    talk.raw(ALICE, SERVER, b"\r\n\r\n", kind=Kind.OTHER)
    talk.raw(SERVER, ALICE, b"", kind=Kind.OTHER)
    talk.request(ALICE, SERVER, "OPTIONS", 2)
    talk.answer(SERVER, ALICE, "200 OK", "OPTIONS", 2)
    picture = ladder(talk.records, [])
    assert ([step.label for step in picture.steps], picture.left_out) == (["INVITE"], 4)
    picture = ladder(talk.records, [], keepalives=True)
    assert (len(picture.steps), picture.left_out) == (5, 0)


def test_options_alone_are_no_keepalives() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "OPTIONS")
    assert len(ladder(talk.records, []).steps) == 1


def test_rows_are_in_the_order_of_their_times_and_late_packets_are_marked() -> None:
    talk = Talk()
    for method in ("INVITE", "ACK", "BYE"):
        talk.request(ALICE, SERVER, method)
    first, second, third = talk.records
    moved = [dataclasses.replace(first, id=2), dataclasses.replace(second, id=1), third]
    for records in (moved, moved[::-1]):
        steps = ladder(records, []).steps
        assert [(step.label, step.out_of_order) for step in steps] == [
            ("INVITE", True),
            ("ACK", False),
            ("BYE", False),
        ]


def test_an_event_that_is_sent_late_is_not_out_of_order() -> None:
    talk = Talk()
    talk.request(ALICE, SERVER, "INVITE")
    talk.event('{"Event":"CONNECTING"}')
    late = dataclasses.replace(talk.records[1], at=START)
    steps = ladder([talk.records[0], late], []).steps
    assert [(step.label, step.out_of_order) for step in steps] == [
        ("connecting", False),
        ("INVITE", False),
    ]


def test_rows_are_bounded() -> None:
    talk = relayed()
    assert len(ladder(talk.records, [], most=3).steps) == 3


def test_nothing_gives_an_empty_picture() -> None:
    assert ladder([], []) == Ladder([], [])
    assert ladder([], legs()).steps == []


def test_a_call_of_many_packets_takes_time_in_proportion() -> None:
    def seconds(count: int) -> float:
        talk = Talk()
        for number in range(count):
            talk.request(
                f"10.0.{number % 250}.1:{number}",
                f"10.0.0.2:{number % 7}",
                "INVITE",
                1,
                after=0.0001,
            )
        started = time.thread_time()
        ladder(talk.records, [], most=count)
        return time.thread_time() - started

    small = min(seconds(250) for _ in range(3))
    assert min(seconds(2_000) for _ in range(2)) < 40 * small


ADDRESSES = st.sampled_from(["", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "[::1]:4", "x"])
PAYLOADS = st.binary(max_size=120) | st.sampled_from(
    [relayed().records[0].payload, relayed().records[2].payload, b'{"Event":"CLOSED"}', b"\r\n"]
)


@st.composite
def hostile(draw: st.DrawFn) -> list[Record]:
    records = []
    for number in range(draw(st.integers(0, 12))):
        payload = draw(PAYLOADS)
        cut = draw(st.integers(0, len(payload)))
        payload = draw(
            st.sampled_from([payload, payload[:cut], payload[:cut] + b"\xff<" + payload[cut:]])
        )
        kind = draw(st.sampled_from(list(Kind)))
        sip = read_sip(payload) if kind is Kind.SIP else None
        records.append(
            Record(
                draw(st.integers(0, 3_000_000)),
                kind,
                draw(ADDRESSES),
                draw(ADDRESSES),
                payload,
                draw(st.integers(0, 255)),
                sip=sip,
                id=number,
                connection=draw(st.sampled_from(["", "7"])),
            )
        )
    return records


@given(hostile(), st.sampled_from([[], legs()]), st.booleans())
def test_no_packets_raise_and_each_row_has_its_columns(
    records: list[Record], connections: list[ConnectionSummary], keepalives: bool
) -> None:
    picture = ladder(records, connections, keepalives=keepalives)
    for number, step in enumerate(picture.steps):
        assert 0 <= step.source < len(picture.parties)
        assert 0 <= step.destination < len(picture.parties)
        for other in (step.copy_of, step.retransmission_of):
            assert other is None or other < number
    assert [step.at for step in picture.steps] == sorted(step.at for step in picture.steps)
    shown = [address for party in picture.parties for address in party.addresses]
    assert len(shown) == len(set(shown))


def test_two_phones_of_one_page_are_two_parties_behind_an_upstream_that_adds_no_via() -> None:
    """Phones in one page may have the same made-up host, and not every exchange is a SIP proxy."""
    talk, bob_leg = Talk(), "192.168.7.1:45002"
    payload = talk.request(ALICE, SERVER, "INVITE", body=SDP)
    talk.raw(LEG, UP, payload)
    talk.raw(UP, bob_leg, payload)
    talk.raw(SERVER, BOB, payload)
    payload = talk.answer(BOB, SERVER, "200 OK", agent="ua")
    talk.raw(bob_leg, UP, payload)
    talk.raw(UP, LEG, payload)
    talk.raw(SERVER, ALICE, payload)
    bye = talk.request(BOB, SERVER, "BYE", user="bob", to="alice", tags=("tb", "fa"))
    talk.raw(bob_leg, UP, bye)
    talk.raw(UP, LEG, bye)
    talk.raw(SERVER, ALICE, bye)
    more = [
        ConnectionSummary("9", "WSS", BOB, SERVER, "client", since=START, relayed_with="10"),
        ConnectionSummary(
            "10", "WS", UP, bob_leg, "upstream", since=START, relayed_with="9", client=BOB
        ),
    ]
    drawn = ladder(talk.records, [*legs(), *more])
    assert [(party.role, party.addresses) for party in drawn.parties] == [
        ("phone", [ALICE]),
        ("server", [SERVER, LEG, bob_leg]),
        ("upstream", [UP]),
        ("phone", [BOB]),
    ]
