"""A PostgreSQL server of the system's own programs, in a folder that is removed afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contracts.ports import free_port

USER, PASSWORD = "stillhouse", "a-password-that-no-record-may-show"


@dataclass(frozen=True)
class Database:
    """Where a database is; the password goes through the environment, as it should elsewhere."""

    port: int

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/postgres"


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`; Debian keeps them off PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].resolve().parent if found else None


@contextmanager
def serving(bin_folder: Path) -> Iterator[Database]:
    """A new server with a password, on a free loopback port. PostgreSQL refuses to run as root: then as `nobody`."""
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    become = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-postgres-"))
    database = Database(free_port())
    try:
        secret, log = folder / "password", folder / "log"
        secret.write_text(PASSWORD)
        log.touch()
        for path in (folder, secret, log):
            os.chown(path, account.pw_uid, account.pw_gid)
        initdb = [bin_folder / "initdb", "-D", folder / "data", "-U", USER, "--auth=scram-sha-256", "--no-sync"]
        done = subprocess.run(
            [*initdb, f"--pwfile={secret}"], cwd=folder, capture_output=True, text=True, check=False, **become
        )
        assert done.returncode == 0, done.stderr
        command = [bin_folder / "postgres", "-D", folder / "data", "-p", str(database.port), "-h", "127.0.0.1"]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with log.open("a") as stream:
            server = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream, **become)
        try:
            wait(server, log)
            yield database
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for clients to leave
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait(server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    """Until it takes connections."""
    until = time.monotonic() + seconds
    while "ready to accept connections" not in log.read_text():
        assert server.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < until, log.read_text()[-2000:]
        time.sleep(0.05)
