"""The directory of a spool: created for its owner alone, locked, and watched for being replaced.

All functions here block. Names are looked up in the open directory, so that replacing it does not
redirect them, and symbolic links are not followed.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
"""The file that keeps other processes out."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# With O_NONBLOCK a named pipe does not block.
_EXISTING: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Folder:
    """An open and locked directory.

    Files are created with mode 0600 and directories with 0700, whatever the umask is.

    Args:
        path: created if missing, with its parents.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: the directory cannot be used.
    """

    _descriptor = _lock = -1

    def __init__(self, path: Path) -> None:
        self._path = path
        _make(path)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            state = os.fstat(self._descriptor)
            self._identity = state.st_dev, state.st_ino
            names = os.listdir(self._descriptor)
            flags = os.O_RDWR | os.O_CREAT | _EXISTING
            self._lock = os.open(LOCK, flags, 0o600, dir_fd=self._descriptor)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                os.fchmod(self._lock, 0o600)
            if not names or LOCK in names:
                self._protect(state)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock. May be called again."""
        for descriptor in (self._lock, self._descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._descriptor = -1

    def __del__(self) -> None:
        self.close()

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this directory.

        Raises:
            OSError: that cannot be found out.
        """
        try:
            state = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (state.st_dev, state.st_ino) == self._identity

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """The names of all entries, with their state. Symbolic links are not followed."""
        for entry in os.scandir(self._descriptor):
            yield entry.name, entry.stat(follow_symlinks=False)

    def create(self, name: str) -> int:
        """Create a file and open it for appending.

        Returns:
            its descriptor.

        Raises:
            OSError: that is not possible, or the file exists.
        """
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self._descriptor)
        # The umask may have taken rights of the owner.
        with suppress(OSError):
            os.fchmod(descriptor, 0o600)
        return descriptor

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            OSError: that is not possible.
        """
        descriptor = os.open(name, os.O_RDONLY | _EXISTING, dir_fd=self._descriptor)
        with open(descriptor, "rb") as file:
            return file.read()

    def is_readable(self, name: str) -> bool:
        """Whether a file can be opened for reading."""
        return os.access(name, os.R_OK, dir_fd=self._descriptor)

    def protect(self, name: str) -> None:
        """Take the rights of others from a file, if that is possible."""
        with suppress(OSError):
            os.chmod(name, 0o600, dir_fd=self._descriptor)

    def delete(self, name: str) -> None:
        """Delete a file, if it exists.

        Raises:
            OSError: that is not possible.
        """
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def clear(self, name: str) -> bool:
        """Remove the contents of a file; possible also where the directory cannot be written.

        Returns:
            whether that was possible.
        """
        try:
            descriptor = os.open(name, os.O_WRONLY | _EXISTING, dir_fd=self._descriptor)
            with open(descriptor, "wb", buffering=0) as file:
                file.truncate(0)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Write the names of the files through to the disk.

        Raises:
            OSError: that is not possible.
        """
        os.fsync(self._descriptor)

    def _protect(self, state: os.stat_result) -> None:
        """Take the rights of others from a directory that an earlier version created.

        Directories of other users, and shared ones such as /tmp, stay as they are.
        """
        is_ours = state.st_uid == os.geteuid() and not state.st_mode & stat.S_ISVTX
        if is_ours and state.st_mode & 0o077:
            with suppress(OSError):
                os.fchmod(self._descriptor, 0o700)


def _make(directory: Path) -> None:
    """Create a directory and its missing parents, for the owner alone."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
            each.chmod(0o700)
