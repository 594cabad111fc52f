"""What was recorded of real clients is whole, and holds nothing of the machine that recorded it."""

import re
from pathlib import Path

import pytest

from sipws.sip import Message

RECORDED = sorted((Path(__file__).parent / "data" / "messages").glob("*.sip"))
UNSPECIFIC = ("127.0.0.1", "0.0.0.0")


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_message_is_whole(path: Path) -> None:
    data = path.read_bytes()
    message = Message.parse(data)
    assert message is not None
    head, blank, body = data.partition(b"\r\n\r\n")
    assert blank
    assert message.get("content-length") == str(len(body))
    cseq = message.get("cseq")
    assert cseq is not None
    match = re.fullmatch(r"baresip-(\w+)|\w+-\w+-([a-z]+)(?:-(\d{3}))?", path.stem)
    assert match is not None
    method, status = match[1] or match[2], match[3]
    assert cseq.split()[1] == method.upper()
    if status:
        assert message.start_line.startswith(f"SIP/2.0 {status} ")
    else:
        assert message.method == method.upper()
    assert {"via", "from", "to", "call-id"} <= message.headers.keys(), head


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_message_names_no_machine(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text)) <= set(UNSPECIFIC)
    hosts = re.findall(r"(?:@|SIP/2\.0/WSS? )([\w.-]+)", text)
    assert all(re.fullmatch(r"127\.0\.0\.1|example\.com|\w+\.invalid", host) for host in hosts)
    # Candidates of a browser that has not been granted a microphone.
    candidates = re.findall(r"a=candidate:\S+ \d \w+ \d+ (\S+) ", text)
    assert all(re.fullmatch(r"[0-9a-f-]{36}\.local", each) for each in candidates)


def test_every_kind_of_message_was_recorded() -> None:
    names = {path.stem for path in RECORDED}
    requests = ["register", "options", "message", "invite", "ack", "bye"]
    for client in ("chromium-jssip", "chromium-sipjs"):
        for kind in [*requests, "invite-180", "invite-200", "bye-200"]:
            assert f"{client}-{kind}" in names
    assert "baresip-register" in names
    assert b"\r\nm=audio " in (RECORDED[0].parent / "chromium-jssip-invite.sip").read_bytes()
