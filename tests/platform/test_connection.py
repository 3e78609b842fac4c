"""Which database the commands work on, and what is said when it is not to be had."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from base.cluster import free_port
from base.connection import connect, describe, readable_version, resolve
from base.errors import UserError
from tests.conftest import Finished
from tests.support.database import Database
from tests.support.servers import RunningServer

SECRET = "s3cret-w0rd"


def test_the_option_comes_before_the_variable_and_that_before_libpqs(
    oceanrecords: Callable[..., Finished], new_database: Callable[..., Database]
) -> None:
    option, variable, libpq = (new_database(migrated=False) for _ in range(3))
    environment = {
        "OCEANRECORDS_DSN": variable.dsn,
        "PGHOST": libpq.server.host,
        "PGPORT": str(libpq.server.port),
        "PGUSER": "postgres",
        "PGDATABASE": libpq.name,
    }

    def chosen(*arguments: str) -> tuple[str, str]:
        finished = oceanrecords(*arguments, "db", "status", "--json", env=environment)
        assert finished.returncode == 0, finished.stderr
        answer = json.loads(finished.stdout)
        return answer["database"], answer["origin"]

    assert chosen("--dsn", option.dsn) == (option.name, "--dsn")
    assert chosen() == (variable.name, "OCEANRECORDS_DSN")
    del environment["OCEANRECORDS_DSN"]
    name, origin = chosen()
    assert name == libpq.name
    assert "PGHOST" in origin


def test_without_any_the_embedded_server_is_meant(
    oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    finished = oceanrecords("migrate")
    assert finished.returncode == 1
    assert str(tmp_path / ".oceanrecords") in finished.stderr
    assert "oceanrecords db start" in finished.stderr


def test_a_server_that_is_not_there(oceanrecords: Callable[..., Finished]) -> None:
    dsn = f"postgresql://somebody:{SECRET}@127.0.0.1:{free_port()}/warehouse"
    finished = oceanrecords("--dsn", dsn, "migrate")
    assert finished.returncode == 1
    assert "warehouse on 127.0.0.1" in finished.stderr
    assert "cannot be reached" in finished.stderr
    assert SECRET not in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://user:{SECRET}@host:not{SECRET}a-port/x",
        f"password {SECRET}",
        f"postgresql://user:{SECRET}@[::1/x",
        f"postgres//{SECRET}",
        f"host=x unknown_{SECRET}=1",
    ],
)
def test_a_connection_string_that_cannot_be_read_is_not_repeated(
    oceanrecords: Callable[..., Finished], dsn: str
) -> None:
    finished = oceanrecords("--dsn", dsn, "doctor", "--json")
    told = finished.stdout + finished.stderr
    assert finished.returncode == 1
    assert "--dsn" in told
    assert SECRET not in told


def test_a_wrong_password_is_not_repeated(
    oceanrecords: Callable[..., Finished], server: RunningServer
) -> None:
    dsn = f"postgresql://postgres:{SECRET}@127.0.0.1:{server.port}/postgres"
    finished = oceanrecords("--dsn", dsn, "status")
    assert finished.returncode == 1
    assert "refuses the login" in finished.stderr
    assert SECRET not in finished.stderr


def test_a_database_that_does_not_exist(
    oceanrecords: Callable[..., Finished], server: RunningServer
) -> None:
    finished = oceanrecords("--dsn", server.dsn("no_such_database"), "migrate")
    assert finished.returncode == 1
    assert "There is no database no_such_database" in finished.stderr


def test_the_password_is_in_no_description() -> None:
    target = resolve(f"postgresql://me:{SECRET}@example.org/sales")
    assert describe(target) == "sales on example.org:5432"
    assert SECRET not in repr(target)


@contextmanager
def server_of_version(version: str) -> Iterator[int]:
    """Listen as a PostgreSQL server that announces a version to everybody; yields its port."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                while True:
                    head = client.recv(8)
                    if len(head) < 8:
                        break
                    length, code = struct.unpack("!II", head)
                    client.recv(length - 8)
                    if code in (80877103, 80877104):  # no TLS, no GSS encryption
                        client.sendall(b"N")
                        continue
                    client.sendall(
                        message(b"R", struct.pack("!I", 0))
                        + message(b"S", b"server_version\0" + version.encode() + b"\0")
                        + message(b"S", b"client_encoding\0UTF8\0")
                        + message(b"K", struct.pack("!II", 1, 1))
                        + message(b"Z", b"I")
                    )
                    client.recv(1024)
                    break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("version", ["14.11", "9.6.24", "12.0 (Debian 12.0-1)"])
def test_a_server_that_is_too_old(oceanrecords: Callable[..., Finished], version: str) -> None:
    with server_of_version(version) as port:
        finished = oceanrecords("--dsn", f"host=127.0.0.1 port={port} user=x dbname=x", "run")
    assert finished.returncode == 1
    sentence, hint = finished.stderr.splitlines()
    assert f"PostgreSQL {version.split()[0]}, which is too old" in sentence
    assert "15 to 18" in hint


def test_versions_are_readable() -> None:
    assert readable_version(150004) == "15.4"
    assert readable_version(90624) == "9.6.24"


@pytest.fixture
def bystander(empty_database: Database) -> Iterator[str]:
    """The DSN of a role that may connect and no more."""
    role = f"{empty_database.name}_bystander"
    empty_database.execute(f"CREATE ROLE {role} LOGIN")
    yield psycopg.conninfo.make_conninfo(empty_database.dsn, user=role)
    with psycopg.connect(empty_database.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_role_without_rights_is_told_which_it_needs(
    oceanrecords: Callable[..., Finished], bystander: str
) -> None:
    finished = oceanrecords("--dsn", bystander, "migrate")
    assert finished.returncode == 1
    assert "permission denied" in finished.stderr
    assert "doctor" in finished.stderr
    finished = oceanrecords("--dsn", bystander, "doctor", "--json")
    assert finished.returncode == 1
    rights = next(one for one in json.loads(finished.stdout) if one["check"] == "rights")
    assert rights["status"] == "failed"
    assert rights["remedy"].startswith("GRANT CREATE ON DATABASE")


def test_an_owner_who_is_no_superuser_can_migrate(
    oceanrecords: Callable[..., Finished],
    database: Database,  # migrated by an administrator: the server has the group roles
    empty_database: Database,
    bystander: str,
) -> None:
    """All that an administrator must do for him is to let him own what the warehouse's role owns."""
    assert database.server is empty_database.server
    role = psycopg.conninfo.conninfo_to_dict(bystander)["user"]
    empty_database.execute(f'GRANT CREATE ON DATABASE "{empty_database.name}" TO "{role}"')
    refused = oceanrecords("--dsn", bystander, "migrate")
    assert refused.returncode == 1
    assert "which is to own the warehouse" in refused.stderr
    empty_database.execute(f'GRANT oceanrecords_owner TO "{role}"')
    finished = oceanrecords("--dsn", bystander, "migrate")
    assert finished.returncode == 0, finished.stderr
    assert oceanrecords("--dsn", bystander, "run").returncode == 0


def test_connections_bear_the_programs_name(database: Database) -> None:
    with connect(database.dsn) as connection:
        row = connection.execute("SHOW application_name").fetchone()
    assert row == ("oceanrecords",)


def test_libpqs_variables_alone_are_enough(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", database.server.host)
    monkeypatch.setenv("PGPORT", str(database.server.port))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", database.name)
    with connect() as connection:
        assert connection.info.dbname == database.name
    monkeypatch.setenv("PGDATABASE", "no_such_database")
    with pytest.raises(UserError, match="no_such_database"):
        connect()
    assert "OCEANRECORDS_DSN" not in os.environ


# -- named targets --------------------------------------------------------------------------------


def test_a_target_is_found_in_the_project_and_in_the_users_files(
    oceanrecords: Callable[..., Finished], database: Database, tmp_path: Path
) -> None:
    user_files = tmp_path / "config"
    (user_files / "oceanrecords").mkdir(parents=True)
    (user_files / "oceanrecords" / "config.toml").write_text(
        'default = "dev"\n[targets.dev]\ndsn = "host=/nowhere"\n'
        f'[targets.test]\ndsn = "{database.dsn}"\n'
    )
    project = tmp_path / "project"
    project.mkdir()
    env = {"XDG_CONFIG_HOME": str(user_files)}

    def place(*arguments: str, **more: str) -> str:
        finished = oceanrecords(*arguments, "db", "status", env=env | more, cwd=project)
        return finished.stdout if finished.returncode == 0 else finished.stderr

    assert "target test of" in place("--target", "test")
    assert "target test of" in place(OCEANRECORDS_TARGET="test")
    assert "target dev of" in place()
    assert "OCEANRECORDS_DSN" in place(OCEANRECORDS_DSN=database.dsn)
    # The project's file hides a namesake.
    (project / "oceanrecords.toml").write_text(f'[targets.dev]\ndsn = "{database.dsn}"\n')
    assert "PostgreSQL" in place()
    listed = oceanrecords("db", "targets", "--json", env=env, cwd=project)
    assert [(one["name"], one["is_default"]) for one in json.loads(listed.stdout)] == [
        ("dev", True), ("test", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[targets.a]\ndsn = "postgresql://u:secret-one@h/d"', "holds a password"),
        ("[targets.a]\ndsn = 'host=h password=secret-one'", "holds a password"),
        ('[targets.a]\ndsn = "secret-one"', "cannot be read"),
        ("[targets.a]\nuser = 'x'", "has no dsn"),
        ("[targets.a]\ndsn = 'host=h'\ncolour = 'x'", "colour"),
        ("targets = 1", "not a table"),
        ("default = 'b'\n[targets.a]\ndsn = 'host=h'", '"b" does not exist'),
        ("defualt = 'a'", "Did you mean default"),
        ("][", "cannot be read"),
    ],
)
def test_a_wrong_target_file_is_named_with_what_is_wrong(
    oceanrecords: Callable[..., Finished], tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "oceanrecords.toml").write_text(text)
    finished = oceanrecords("--target", "a", "status")
    assert finished.returncode == 1
    assert words in finished.stderr
    assert "secret-one" not in finished.stderr + finished.stdout


def test_an_unknown_target_is_refused(
    oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    finished = oceanrecords("--target", "prod", "status")
    assert finished.returncode == 2
    assert "[targets.prod]" in finished.stderr
    (tmp_path / "oceanrecords.toml").write_text('[targets.prod]\ndsn = "host=h"')
    assert "Did you mean prod" in oceanrecords("--target", "prd", "status").stderr
    both = oceanrecords("--target", "prod", "--dsn", "host=h", "status")
    assert (both.returncode, both.stdout) == (2, "")
