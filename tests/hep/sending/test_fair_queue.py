"""A queue that is full: the flow that has most waiting loses a packet, and nobody else."""

from collections import Counter, deque
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.sending.fair_queue import FairQueue, Flow, flow_of, named
from hep.sending.outbox import Outbox

DATA = Path(__file__).parents[2] / "data"


def packet(
    port: int, payload: bytes = b"", *, back: bool = False, ip: str = "192.0.2.5", version: int = 3
) -> bytes:
    client, server = (ip, port), ("10.0.0.1", 443)
    (src_ip, src_port), (dst_ip, dst_port) = (server, client) if back else (client, server)
    return hep.encode(
        hep.Packet(
            src_ip=src_ip, src_port=src_port, dst_ip=dst_ip, dst_port=dst_port, seconds=1,
            microseconds=0, payload=payload, version=version,
        )
    )  # fmt: skip


def test_both_directions_in_all_versions_are_one_flow() -> None:
    assert flow_of(packet(1)) == flow_of(packet(1, b"more", back=True))
    assert flow_of(packet(1)) != flow_of(packet(2))
    assert flow_of(packet(1)) == flow_of(packet(1, version=1)) == flow_of(packet(1, version=2))
    assert flow_of(packet(1)) == flow_of(packet(1) + b"behind")


@pytest.mark.parametrize("garbage", [b"", b"HEP3", b"x" * 100, packet(1)[:40], packet(1)[:-1]])
def test_bytes_that_are_no_packet_have_an_empty_flow(garbage: bytes) -> None:
    assert flow_of(garbage) in ((), flow_of(packet(1)))
    assert named(()) == "no packet"


@pytest.mark.parametrize("path", sorted(DATA.glob("*/**/*.bin")), ids=lambda path: path.stem)
def test_the_flow_of_recorded_packets_is_that_of_their_addresses(path: Path) -> None:
    read = hep.decode(path.read_bytes())
    assert read.src_ip is not None
    assert read.dst_ip is not None
    ends = [(ip_address(read.src_ip).packed, read.src_port or 0)]
    ends += [(ip_address(read.dst_ip).packed, read.dst_port or 0)]
    assert flow_of(path.read_bytes()) == tuple(sorted(ends))


def test_a_flow_is_formatted_for_logs() -> None:
    assert named(flow_of(packet(50123))) == "10.0.0.1:443 - 192.0.2.5:50123"


# A few flows, of which one is what is not a packet; sizes that make bytes count, or numbers.
packets = st.one_of(
    st.builds(packet, st.integers(1, 4), st.binary(max_size=300), back=st.booleans()),
    st.binary(min_size=1, max_size=9),
)


class Model:
    """The same, as plainly as can be."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.limit, self.limit_bytes = limit, limit_bytes
        self.waiting: list[bytes] = []

    def weight(self, flow: Flow) -> int:
        ours = [each for each in self.waiting if flow_of(each) == flow]
        return len(ours) * self.limit_bytes + sum(map(len, ours)) * self.limit


@given(
    first=st.lists(packets, max_size=8),
    limit=st.integers(1, 20),
    limit_bytes=st.integers(1, 2000),
    steps=st.lists(st.one_of(packets, st.sampled_from(["left", "oldest", "newest", "back"]))),
)
def test_it_behaves_as_a_simple_model(
    first: list[bytes], limit: int, limit_bytes: int, steps: list[object]
) -> None:
    queue, model = FairQueue(deque(first), limit, limit_bytes), Model(limit, limit_bytes)
    model.waiting = list(first)
    for step in steps:
        if isinstance(step, bytes):
            queue.append(step)
            model.waiting.append(step)
        elif step == "back":
            queue.extendleft([b"second", b"first"])
            model.waiting[:0] = [b"first", b"second"]
        elif not model.waiting:
            continue
        elif step == "left":
            assert queue.popleft() == model.waiting.pop(0)
        else:
            given_up, flow = queue.pop_heaviest(oldest=step == "oldest")
            assert flow == flow_of(given_up)
            assert model.weight(flow) == max(map(model.weight, map(flow_of, model.waiting)))
            numbers = [n for n, each in enumerate(model.waiting) if flow_of(each) == flow]
            assert model.waiting.pop(numbers[0 if step == "oldest" else -1]) == given_up
        assert list(queue) == model.waiting
        assert len(queue) == len(model.waiting)


@pytest.mark.parametrize("when_full", ["drop-oldest", "drop-newest"])
@pytest.mark.parametrize("size", [100, 30_000])
def test_a_flood_of_fifty_flows_does_not_displace_other_flows(when_full, size: int) -> None:
    outbox = Outbox(1000, when_full, 10_000_000)
    quiet = [packet(1, b"%d" % number) for number in range(10)]
    for number in range(10_000):
        if number % 1000 == 0:
            outbox.put(quiet[number // 1000])
        outbox.put(packet(1000 + number % 50, b"x" * size, back=number % 3 == 0))
    assert outbox.offered == outbox.dropped["queue-full"] + outbox.queued
    assert outbox.crowded_out.total() == outbox.dropped["queue-full"] > 9000
    # Those that flood share what is left.
    assert outbox.crowded_out.keys() == {flow_of(packet(1000 + number)) for number in range(50)}
    taken = outbox.take(1 << 40)
    assert [each for each in taken if flow_of(each) == flow_of(quiet[0])] == quiet
    shares = Counter(map(flow_of, taken))
    del shares[flow_of(quiet[0])]
    assert max(shares.values()) - min(shares.values()) <= 1


def test_dropped_packets_are_counted_for_a_limited_number_of_flows() -> None:
    outbox = Outbox(2)
    for port in range(1, 5000):
        outbox.put(packet(port))
        outbox.put(packet(port))
    assert len(outbox.crowded_out) <= 1000
    assert outbox.offered == outbox.dropped.total() + outbox.queued
