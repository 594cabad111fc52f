"""HEP ids as operators write them."""

import pytest

from hep import HepId, HepIdError


@pytest.mark.parametrize(
    ("text", "hep_id"),
    [
        ("10.0.0.2", HepId("10.0.0.2")),
        ("[hep_dest]10.0.0.2;transport=tcp;version=3", HepId("10.0.0.2", name="hep_dest")),
        ("[dst] 10.0.0.2:9061 ; version = 3 ; transport = UDP ;", HepId(
            "10.0.0.2", 9061, "udp", 3, "dst")),
        ("[a]homer.example.com;transport=tls", HepId("homer.example.com", 9060, "tls", name="a")),
        ("[old]10.0.0.2;version=2", HepId("10.0.0.2", 9060, "udp", 2, "old")),
        ("[old]10.0.0.2;version=1;transport=udp", HepId("10.0.0.2", 9060, "udp", 1, "old")),
        ("[six][::1]:9070", HepId("::1", 9070, name="six")),
        ("[::1]:9070", HepId("::1", 9070)),
        ("[2001:db8::1]", HepId("2001:db8::1")),
        ("10.0.0.2:0009061", HepId("10.0.0.2", 9061)),
    ],
)  # fmt: skip
def test_a_hep_id_is_read(text: str, hep_id: HepId) -> None:
    assert HepId.parse(text) == hep_id
    assert HepId.parse(str(hep_id)) == hep_id


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not host"),
        ("[name]", "not host"),
        ("[name]:9060", "':9060' is not host"),
        ("10.0.0.2:http", "is not host"),
        ("10.0.0.2:0", "port 0 is not in 1 to 65535"),
        ("10.0.0.2:65536", "port 65536 is not in 1 to 65535"),
        ("10.0.0.2:99999999999999999999", "port 99999999999999999999 is not in 1 to 65535"),
        ("10.0.0.2:" + "9" * 5000, "is not in 1 to 65535"),
        ("10.0.0.2:" + "0" * 5000, "is not in 1 to 65535"),
        ("::1", "is not host"),
        ("10.0.0.2;transport=sctp", "transport 'sctp' is not one of udp, tcp, tls"),
        ("10.0.0.2;version=4", "version '4' is not one of 1, 2, 3"),
        ("10.0.0.2;transport", "neither transport=… nor version=…"),
        ("10.0.0.2;color=red", "neither transport=… nor version=…"),
        ("10.0.0.2;version=3;version=3", "version occurs twice"),
        ("10.0.0.2;version=2;transport=tcp", "version 2 needs transport=udp, not tcp"),
    ],
)
def test_a_wrong_hep_id_raises_with_the_problem(text: str, problem: str) -> None:
    with pytest.raises(HepIdError) as refused:
        HepId.parse(text)
    assert problem in str(refused.value)
    assert "use [name]host[:port]" in str(refused.value)
