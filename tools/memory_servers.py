"""Start a PostgreSQL and a MariaDB in memory, of the binaries that this machine has, and stop them again.

    python tools/memory_servers.py start /dev/shm/servers    # prints "export SQLA_PATTERNS_..._URL=..." for each
    python tools/memory_servers.py stop /dev/shm/servers

The suite makes its tables for each test. A MariaDB whose files are on a disk waits for it about ten times for each
CREATE TABLE, whatever its settings, which is most of the time that the suite takes there; in memory it is a hundredth.
What cannot be started is left out, with a line on standard error that says why. The data are lost when the machine
stops, so that these servers are for tests only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: Seconds until a server must answer.
PATIENCE = 60.0
#: Bytes that must be free where the files go.
ROOM = 2 * 1024**3


class UnavailableError(Exception):
    """A server cannot be started."""


def _account(name: str) -> dict[str, Any]:
    """Return arguments for subprocesses: both servers refuse to run as root."""
    return {"user": name, "group": name, "extra_groups": []} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _found(name: str, *folders: Path) -> str:
    path = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))
    if path is None:
        raise UnavailableError(f"there is no {name}")
    return path


def _run(command: Sequence[str], **account: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **account)
    if done.returncode:
        raise UnavailableError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _launch(command: Sequence[str], folder: Path, port: int, **account: Any) -> None:
    """Start a server that outlives this process, and wait until it listens."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **account
        )
    (folder / "pid").write_text(str(server.pid))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise UnavailableError(f"{command[0]} ended: {(folder / 'log').read_text()[-300:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise UnavailableError(f"{command[0]} does not listen after {PATIENCE:.0f} seconds")


def start_postgresql(folder: Path) -> str:
    """Start a PostgreSQL and return the URL of its database ``test``."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: -float(each.parent.name))
    initdb, postgres = _found("initdb", *folders), _found("postgres", *folders)
    account, port, data = _account("postgres"), _free_port(), folder / "data"
    _run([initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"], **account)
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "max_connections": 200,
    }
    command = [postgres, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
    _launch(command, folder, port, **account)
    createdb = _found("createdb", *folders)
    _retry(lambda: _run([createdb, "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "test"]))
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/test"


def start_mariadb(folder: Path) -> str:
    """Start a MariaDB and return the URL of its database ``test``."""
    install, server = _found("mariadb-install-db"), _found("mariadbd")
    account, port, data = _account("mysql"), _free_port(), folder / "data"
    _run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"],
        **account,
    )
    settings = {
        "datadir": data,
        "port": port,
        "bind-address": "127.0.0.1",
        "socket": folder / "socket",
        "pid-file": folder / "server.pid",
        "innodb-flush-log-at-trx-commit": 0,
    }
    command = [server, "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]
    _launch(command, folder, port, **account)
    client = _found("mariadb")
    create = [client, "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uroot", "-e", "CREATE DATABASE test"]
    _retry(lambda: _run(create))
    return f"mysql+pymysql://root@127.0.0.1:{port}/test?charset=utf8mb4&ssl_disabled=true"


def _retry(action: Callable[[], None]) -> None:
    """Do what a server refuses while it starts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            action()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def start(folder: Path) -> None:
    """Start what can be started, and print how to reach it."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    if shutil.disk_usage(folder).free < ROOM:
        sys.stderr.write(f"less than {ROOM} bytes are free in {folder}\n")
        return
    for variable, account, starter in (
        ("SQLA_PATTERNS_POSTGRESQL_URL", "postgres", start_postgresql),
        ("SQLA_PATTERNS_MARIADB_URL", "mysql", start_mariadb),
    ):
        own = folder / account
        own.mkdir()
        try:
            if os.geteuid() == 0:
                shutil.chown(own, account, account)
            url = starter(own)
        except (UnavailableError, LookupError, OSError) as error:
            sys.stderr.write(f"no server in memory for {variable}: {error}\n")
            _end(own)
        else:
            sys.stdout.write(f"export {variable}='{url}'\n")


def _end(folder: Path) -> None:
    """Stop the server in a folder, if one runs there."""
    try:
        pid = int((folder / "pid").read_text())
        # PostgreSQL: without waiting for those who are connected. MariaDB takes it for an order to stop at once.
        os.kill(pid, signal.SIGQUIT if folder.name == "postgres" else signal.SIGKILL)
    except (OSError, ValueError):
        return


def stop(folder: Path) -> None:
    """Stop the servers, and delete their files."""
    for own in folder.iterdir() if folder.exists() else ():
        _end(own)
    time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path, help="a new folder, on a file system in memory")
    options = parser.parse_args()
    (start if options.action == "start" else stop)(options.folder.absolute())


if __name__ == "__main__":
    main()
