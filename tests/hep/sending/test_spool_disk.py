"""A spool on a disk that fails, is full, is taken away or is shared."""

import errno
import logging
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import hep
from hep.sending import spool_folder
from hep.sending.records import OVERHEAD
from hep.sending.spool import SPOOL_DAMAGED, SPOOL_FAILED, SPOOL_FULL, Spool


def all_of(spool: Spool) -> list[bytes]:
    """What is in a spool, which is closed then."""
    found: list[bytes] = []
    while spool.packets:
        found += spool.load()[0]
        spool.discard()
    spool.close()
    return found


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.spool"))


def modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777], ids=oct)
def test_files_and_directories_are_for_the_owner_alone(tmp_path: Path, umask, mask: int) -> None:
    umask(mask)
    directory = tmp_path / "a" / "b"
    spool = Spool(directory)
    spool.append([b"1"])
    spool.load()
    spool.put_back([b"1"])
    assert modes(directory) == {0o600}
    for each in (directory, directory.parent):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700
    spool.close()


def test_the_spool_of_an_earlier_version_is_closed_to_others_and_sent(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "lock").touch(0o644)
    segment = tmp_path / "1000000000.spool"
    segment.write_bytes(
        b"".join(len(x).to_bytes(4) + crc32(x).to_bytes(4) + x for x in (b"1", b"2"))
    )
    segment.chmod(0o644)
    spool = Spool(tmp_path)
    assert modes(tmp_path) == {0o600}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    spool.append([b"3"])
    assert all_of(spool) == [b"1", b"2", b"3"]


def test_a_directory_with_other_files_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    tmp_path.chmod(0o755)
    Spool(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


class Files(RuleBasedStateMachine):
    """Whatever is done: the limit holds, and each packet is somewhere or counted."""

    directory: Path
    LIMIT = 2000

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self.temporary.name) / "spool"
        self.spool = Spool(self.directory, self.LIMIT)
        self.sent = 0
        self.memory: list[bytes] = []
        self.number = 0

    def made(self, sizes: list[int]) -> list[bytes]:
        packets = []
        for size in sizes:
            self.number += 1
            packets.append(b"%06d" % self.number + bytes(size))
        return packets

    @rule(sizes=st.lists(st.integers(0, 300) | st.integers(1900, 2100), max_size=12))
    def append(self, sizes: list[int]) -> None:
        self.spool.append(self.made(sizes))

    @rule()
    def load(self) -> None:
        if not self.memory:
            self.spool.discard()
            self.memory, lost = self.spool.load()
            assert not lost

    @rule(count=st.integers(0, 5))
    def send(self, count: int) -> None:
        self.sent += len(self.memory[:count])
        del self.memory[:count]

    @rule(sizes=st.lists(st.integers(0, 300), max_size=12))
    def restart(self, sizes: list[int]) -> None:
        left = self.memory + self.made(sizes)
        before = self.spool.written
        self.spool.put_back(left)
        assert self.spool.written - before == len(left)
        # What had been loaded counts as found or written twice.
        self.sent += len(self.memory)
        self.memory = []
        packets = self.spool.packets
        self.spool.close()
        assert self.total() == packets
        self.spool = Spool(self.directory, self.LIMIT)
        assert self.spool.packets == self.spool.recovered == packets
        self.sent = 0

    def total(self) -> int:
        spool = self.spool
        return spool.recovered + spool.written - spool.losses.total() - self.sent - len(self.memory)

    @invariant()
    def the_limit_holds(self) -> None:
        assert on_disk(self.directory) == self.spool.size <= self.LIMIT

    @invariant()
    def each_packet_is_counted(self) -> None:
        assert self.total() == self.spool.packets
        assert self.spool.losses.keys() <= {SPOOL_FULL}

    def teardown(self) -> None:
        self.spool.close()
        self.temporary.cleanup()


TestFiles = Files.TestCase
TestFiles.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_a_smaller_limit_holds_from_the_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 40_000)
    spool.append([b"%03d" % number + bytes(97) for number in range(300)])
    spool.close()
    spool = Spool(tmp_path, 10_000)
    assert on_disk(tmp_path) <= 10_000
    assert spool.packets + spool.losses[SPOOL_FULL] == 300
    kept = all_of(spool)
    assert kept[-1].startswith(b"299")


def test_a_loaded_segment_yields_to_new_packets(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 40_000)
    spool.append([bytes(9_000)])
    spool.close()
    spool = Spool(tmp_path, 10_000)
    spool.load()
    spool.append([b"new" + bytes(2_000)])
    assert not spool.loaded
    assert on_disk(tmp_path) <= 10_000
    assert spool.losses.total() == 0
    assert all_of(spool) == [b"new" + bytes(2_000)]


def test_of_packets_put_back_into_a_small_spool_the_newest_stay(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    spool.append([b"last" + bytes(200)])
    assert spool.put_back([b"%d" % number + bytes(99) for number in range(10)]) == 4
    assert on_disk(tmp_path) <= 1000
    assert [each.rstrip(b"\0") for each in all_of(spool)] == [
        b"4",
        b"5",
        b"6",
        b"7",
        b"8",
        b"9",
        b"last",
    ]


def test_the_limit_holds_while_packets_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 4_000)
    spool.append([bytes([number]) * 450 for number in range(8)])
    packets, _ = spool.load()
    sizes: list[int] = []
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda *args: (write(*args), sizes.append(on_disk(tmp_path)))[0]
    )
    assert spool.put_back(packets) == 0
    assert sizes
    assert max(sizes) <= 4_000
    assert all_of(spool) == [bytes([number]) * 450 for number in range(8)]


class Failing:
    """Lets functions of the system fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.error = 0

    def __call__(self, name: str, error: int, *, after: int = 0) -> None:
        """Fail with an error, after some calls that work."""
        works, real = [None] * after, getattr(os, name)
        self.error = error

        def call(*args: Any, **more: Any) -> Any:
            if works or not self.error:
                works[:1] = []
                return real(*args, **more)
            raise OSError(self.error, os.strerror(self.error))

        self._patch.setattr(os, name, call)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "open"])
def test_a_failed_write_costs_its_packets_leaves_nothing_and_ends(
    tmp_path: Path, fail: Failing, call: str, error: int
) -> None:
    spool = Spool(tmp_path, 4_000)
    spool.append([bytes([number]) * 400 for number in range(4)])
    before = on_disk(tmp_path)
    # The third packet of these begins a segment.
    fail(call, error, after=1)
    with pytest.raises(OSError, match=os.strerror(error)):
        spool.append([bytes([number]) * 400 for number in range(4, 9)])
    assert spool.packets == 4 + (spool.written - 4)
    assert on_disk(tmp_path) == spool.size >= before
    assert all(path.stat().st_size for path in tmp_path.glob("*.spool"))
    fail.error = 0
    spool.append([b"later"])
    kept = spool.written - 5
    assert all_of(spool) == [*(bytes([number]) * 400 for number in range(4 + kept)), b"later"]
    assert spool.damaged == 0


def test_a_write_that_stops_half_way_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"first"])
    real = os.write
    room = [30]

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        spool.append([b"second" * 10])
    room[0] = 1000
    spool.append([b"third"])
    spool.close()
    spool = Spool(tmp_path)
    assert spool.damaged == 0
    assert all_of(spool) == [b"first", b"third"]


def test_what_cannot_be_undone_costs_only_itself(
    tmp_path: Path, fail: Failing, monkeypatch
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"first"])
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]) and _raise(errno.EIO))
    monkeypatch.setattr(os, "ftruncate", lambda *_: _raise(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        spool.append([b"second"])
    monkeypatch.undo()
    spool.append([b"third"])
    spool.close()
    spool = Spool(tmp_path)
    assert spool.damaged == 1
    assert all_of(spool) == [b"first", b"third"]


def _raise(error: int) -> int:
    raise OSError(error, os.strerror(error))


def test_packets_that_cannot_be_put_back_are_still_in_the_loaded_segment(
    tmp_path: Path, fail: Failing
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1", b"2", b"3"])
    packets, _ = spool.load()
    fail("write", errno.ENOSPC)
    before = spool.written
    with pytest.raises(OSError, match="No space"):
        spool.put_back([*packets[1:], b"new"])
    # All but the new one are on disk.
    assert spool.written - before == 2
    fail.error = 0
    spool.close()
    assert all_of(Spool(tmp_path)) == [b"1", b"2", b"3"]


def test_a_segment_that_cannot_be_deleted_is_emptied(tmp_path: Path, fail: Failing) -> None:
    spool = Spool(tmp_path)
    spool.append([b"sent"])
    spool.load()
    fail("unlink", errno.EACCES)
    spool.discard()
    assert on_disk(tmp_path) == spool.size == 0
    spool.close()
    fail.error = 0
    spool = Spool(tmp_path)
    assert spool.packets == 0
    assert not list(tmp_path.glob("*.spool"))
    spool.close()


def test_a_file_that_can_neither_be_deleted_nor_emptied_is_deleted_later_and_counts(
    tmp_path: Path, fail: Failing, monkeypatch
) -> None:
    spool = Spool(tmp_path, 1000)
    spool.append([bytes(900)])
    spool.load()
    fail("unlink", errno.EROFS)
    monkeypatch.setattr(spool_folder.Folder, "clear", lambda *_: False)
    spool.discard()
    assert spool.size > 900
    with pytest.raises(OSError, match="fill the spool"):
        spool.append([bytes(200)])
    assert on_disk(tmp_path) <= 1000
    fail.error = 0
    spool.append([bytes(200)])
    assert on_disk(tmp_path) == spool.size < 300
    spool.close()


def test_a_directory_that_is_deleted_is_created_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "spool"
    spool = Spool(directory)
    spool.append([b"1", b"2"])
    subprocess.run(["rm", "-r", str(directory)], check=True)
    spool.append([b"3"])
    assert spool.losses == {SPOOL_FAILED: 2}
    assert "the directory was deleted or replaced; 2 packets in it are lost" in caplog.text
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    spool.close()
    assert all_of(Spool(directory)) == [b"3"]


def test_a_directory_that_is_replaced_is_used_with_what_is_in_it(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    other = Spool(theirs)
    other.append([b"theirs"])
    spool = Spool(ours)
    spool.append([b"ours"])
    ours.rename(tmp_path / "gone")
    theirs.rename(ours)
    # Another sender uses that directory.
    with pytest.raises(OSError, match="another process uses"):
        spool.append([b"lost"])
    with pytest.raises(OSError, match="another process uses"):
        spool.put_back([b"lost"])
    other.close()
    spool.append([b"kept"])
    assert spool.losses == {SPOOL_FAILED: 1}
    assert spool.recovered == 1
    assert all_of(spool) == [b"theirs", b"kept"]


def test_a_segment_that_is_removed_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4_000)
    spool.append([bytes([number]) * 900 for number in range(3)])
    sorted(tmp_path.glob("*.spool"))[1].unlink()
    # The newest one, which is open.
    sorted(tmp_path.glob("*.spool"))[-1].unlink()
    spool.append([b"new"])
    assert all_of(spool) == [b"\0" * 900, b"new"]
    assert spool.losses == {SPOOL_FAILED: 2}
    assert spool.size == 0


def test_damage_of_a_running_spool_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1" * 10, b"2" * 10, b"3" * 10])
    [segment] = tmp_path.glob("*.spool")
    data = bytearray(segment.read_bytes())
    data[OVERHEAD + 12] ^= 1
    segment.write_bytes(data)
    assert spool.load() == ([b"1" * 10, b"3" * 10], 1)
    assert spool.losses == {SPOOL_DAMAGED: 1}
    assert f"{segment.name} is damaged: 1 packets are lost" in caplog.text
    spool.close()


def test_other_files_links_and_pipes_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "spool"
    first = Spool(directory)
    first.append([b"ours"])
    first.close()
    (tmp_path / "target").write_bytes(b"secret")
    (directory / "1000000001.spool").symlink_to(tmp_path / "target")
    os.mkfifo(directory / "1000000002.spool")
    (directory / "1000000003.spool").mkdir()
    (directory / "notes.spool").write_bytes(b"x")
    spool = Spool(directory)
    assert all_of(spool) == [b"ours"]
    assert (tmp_path / "target").read_bytes() == b"secret"
    assert (
        "ignored 1000000001.spool, 1000000002.spool, 1000000003.spool, notes.spool" in caplog.text
    )


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    (directory / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(hep.HepSpoolError, match="cannot be used"):
        Spool(directory)
    assert not (tmp_path / "elsewhere").exists()


def test_a_linked_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spool = Spool(tmp_path / "link")
    spool.append([b"1"])
    spool.close()
    assert all_of(Spool(tmp_path / "real")) == [b"1"]


def test_a_process_that_changes_its_directory_keeps_its_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool("spool")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    spool.append([b"1"])
    assert spool.losses.total() == 0
    assert all_of(spool) == [b"1"]
    assert not list((tmp_path / "other").iterdir())


def test_an_empty_file_of_a_crash_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"1000000000-{'ab' * 8}.spool").touch()
    spool = Spool(tmp_path)
    assert (spool.packets, spool.damaged) == (0, 0)
    assert not list(tmp_path.glob("*.spool"))
    spool.close()


def test_a_spool_that_nobody_closed_frees_its_directory(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1"])
    del spool
    assert all_of(Spool(tmp_path)) == [b"1"]


@pytest.mark.parametrize(
    ("policy", "appended", "closed"), [("never", 0, 0), ("segment", 0, 2), ("batch", 3, 3)]
)
def test_fsync_follows_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Any, appended: int, closed: int
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool = Spool(tmp_path, fsync=policy)
    # The first write also makes the name of the file.
    spool.append([b"1"])
    spool.append([b"2"])
    assert len(synced) == appended
    spool.close()
    assert len(synced) == closed


def test_each_complete_segment_is_synced(tmp_path: Path, monkeypatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool = Spool(tmp_path, 4_000)
    spool.append([bytes(900)] * 3)
    assert len(synced) == 2 * 2
    spool.close()


def test_a_failed_fsync_is_logged_once_and_costs_nothing(
    tmp_path: Path, fail: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, fsync="batch")
    fail("fsync", errno.EIO)
    spool.append([b"1"])
    spool.append([b"2"])
    assert [each.message for each in caplog.records if each.levelno == logging.ERROR] == [
        f"spool {tmp_path}: fsync: Input/output error; a power cut may lose packets in it"
    ]
    assert all_of(spool) == [b"1", b"2"]


def test_a_segment_that_cannot_be_read_is_left_in_place(
    tmp_path: Path, fail: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1", b"2"])
    spool.close()
    fail("open", errno.EIO, after=2)
    spool = Spool(tmp_path)
    # How many packets it has is not known.
    assert (spool.packets, spool.recovered, spool.losses) == (0, 1, {SPOOL_FAILED: 1})
    assert "cannot be read: Input/output error; it is left out" in caplog.text
    spool.close()
    fail.error = 0
    assert all_of(Spool(tmp_path)) == [b"1", b"2"]


@pytest.fixture
def small_disk(tmp_path: Path, find: Any) -> Iterator[Path]:
    """A file system of 64 KiB."""
    find.program("mount", remedy="install mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        find.not_allowed("a file system of its own", mounted.stderr)
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk_costs_what_does_not_fit(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool")
    packets = [b"%04d" % number * 250 for number in range(200)]
    for packet in packets:
        with suppress(OSError):
            spool.append([packet])
    kept = spool.written
    assert 30 < kept <= 64
    assert spool.packets == kept
    found = spool.load()[0]
    assert found == packets[:kept]
    spool.discard()
    spool.append(packets[:10])
    spool.close()
    spool = Spool(small_disk / "spool")
    assert spool.damaged == 0
    assert all_of(spool) == packets[:10]
