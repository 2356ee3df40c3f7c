"""Elasticsearch, a single node without security: the server core of the official distribution.

The core has everything that indexing, searching and aggregating take, and no scripts, ingest
pipelines or index lifecycles; and it does not answer ``GET /``.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from typing import TYPE_CHECKING

from deploy.servers.container import ANY_ADDRESS, Plan
from deploy.servers.distribution import Distribution
from deploy.servers.ports import HOST
from deploy.servers.process import Account, Launch
from deploy.servers.server import Server, get

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = "9.2.8"
DEFAULT_PORT = 9200
# The last option: compile soon rather than well, which halves the processor time of a start.
_JVM = ("-Xms512m", "-Xmx512m", "-XX:TieredStopAtLevel=1")
_ANY_ENTER = 0o001


class Elasticsearch(Server):
    """Elasticsearch on the loopback interface.

    It refuses to run as root; started by root it runs as ``nobody``, with a copy of the program.

    Args:
        directory: As for `Server`.
        port: Of HTTP; None: the one that the directory remembers, else a free one.
    """

    name = "elasticsearch"
    product = f"Elasticsearch {VERSION}"
    url_variable = "RENDEZVOUS_TEST_ELASTICSEARCH_URL"
    image_variable = "ELASTICSEARCH_IMAGE"
    default_image = f"elasticsearch:{VERSION}"
    distribution = Distribution(
        product, f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
    )
    minimum_java = 21

    def __init__(self, directory: Path, port: int | None = None) -> None:
        super().__init__(directory, {"http": port, "transport": None})

    @property
    def url(self) -> str:
        """Where clients reach it, such as ``http://127.0.0.1:9200``."""
        return f"http://{HOST}:{self.ports['http']}"

    @staticmethod
    def answers(url: str) -> bool:
        """Return whether a cluster at ``url`` is green or yellow."""
        try:
            status = json.loads(get(f"{url.rstrip('/')}/_cluster/health") or "")["status"]
        except (ValueError, TypeError, KeyError):  # something else answers there
            return False
        return status in {"green", "yellow"}

    def is_healthy(self) -> bool:
        """Return whether all data can be read and written: the cluster is green or yellow."""
        return self.answers(self.url)

    @property
    def work(self) -> Path:
        """The folder with its data, logs and configuration, without symbolic links."""
        return (self.directory / "work").resolve()

    @property
    def mark(self) -> str:
        """What tells its command line from any other."""
        return f"{self.work}{os.sep}"

    def prepare_process(self) -> Launch:
        """Write its configuration folder, and return ``bin/elasticsearch`` with it."""
        java, home = self._java_and_home()
        account = unprivileged()
        self._make_work(account)
        if account:
            home = self._own_copy(home)
        self._write_configuration(home)
        if account:
            _give(self.work, account)
        named = ("JAVA_OPTS", "JAVA_HOME", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")
        env = {name: value for name, value in os.environ.items() if name not in named}
        env |= {
            "ES_JAVA_HOME": str(java.home),
            "ES_PATH_CONF": str(self.work / "config"),
            "ES_TMPDIR": str(self.work / "tmp"),
            "HOME": str(self.work),
        }
        return Launch([str(home / "bin" / "elasticsearch")], self.work, env, account)

    def prepare_container(self) -> Plan:
        """Write ``elasticsearch.yml``; publish the port on the loopback interface."""
        conf = self.directory / "elasticsearch.yml"
        conf.write_text(render_configuration(self.ports, ANY_ADDRESS), encoding="utf-8")
        port = self.ports["http"]
        home = "/usr/share/elasticsearch"
        return Plan(
            [f"--publish={HOST}:{port}:{port}", f"--env=ES_JAVA_OPTS={' '.join(_JVM)}"],
            [],
            {f"{home}/config/elasticsearch.yml": conf},
            f"{home}/data",
        )

    def log_files(self) -> list[Path]:
        """Return its log."""
        return [self.work / "logs" / "elasticsearch.log"]

    def remove(self) -> None:
        """Stop it, and delete its directory with all its data."""
        work = self.work
        super().remove()
        shutil.rmtree(work, ignore_errors=True)

    def _make_work(self, account: Account | None) -> None:
        """Make the folder; elsewhere when ``account`` cannot get into the server's directory."""
        work = self.directory / "work"
        if work.is_dir():
            return
        work.unlink(missing_ok=True)  # a link to a temporary folder that was cleaned up
        if account is None or reachable(self.directory):
            work.mkdir()
        else:
            work.symlink_to(tempfile.mkdtemp(prefix="rendezvous-elasticsearch-"))

    def _own_copy(self, home: Path) -> Path:
        copy = self.work / home.name
        if not copy.exists():
            shutil.copytree(home, self.work / "copying", dirs_exist_ok=True)
            (self.work / "copying").rename(copy)
        return copy

    def _write_configuration(self, home: Path) -> None:
        config = self.work / "config"
        (config / "jvm.options.d").mkdir(parents=True, exist_ok=True)
        for folder in ("data", "logs", "tmp"):
            (self.work / folder).mkdir(exist_ok=True)
        paths = {"data": self.work / "data", "logs": self.work / "logs"}
        shutil.copy(home / "config" / "jvm.options", config)
        for name, text in {
            "elasticsearch.yml": render_configuration(self.ports, HOST, paths),
            "log4j2.properties": _LOG4J2,
            # The heap, and no logs of the garbage collector: by default up to 2 GB of them.
            "jvm.options.d/rendezvous.options": "\n".join(
                [*_JVM, "-Xlog:disable", "-Xlog:all=warning:stderr:utctime,level,tags", ""]
            ),
        }.items():
            (config / name).write_text(text, encoding="utf-8")


def render_configuration(
    ports: Mapping[str, int], bind: str = HOST, paths: Mapping[str, Path] | None = None
) -> str:
    """Return ``elasticsearch.yml``.

    Args:
        ports: ``http`` and ``transport``.
        bind: The address to listen on.
        paths: ``data`` and ``logs``; None: where the image has them.
    """
    lines = [
        "cluster.name: rendezvous",
        "node.name: rendezvous",
        "discovery.type: single-node",
        f"network.host: {bind}",
        f"http.port: {ports['http']}",
        f"transport.port: {ports['transport']}",
        "xpack.security.enabled: false",
        "# A laptop's disk may be nearly full and still have room for this.",
        "cluster.routing.allocation.disk.threshold_enabled: false",
        # JSON is YAML: it quotes what a path may have in it.
        *(f"path.{name}: {json.dumps(str(path))}" for name, path in (paths or {}).items()),
    ]
    return "\n".join([*lines, ""])


def unprivileged() -> Account | None:
    """Return the account to run as instead of root; None when this process is not root's."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def reachable(folder: Path) -> bool:
    """Return whether every user can enter ``folder`` and all that are above it."""
    return all(part.stat().st_mode & _ANY_ENTER for part in [folder, *folder.parents])


def _give(folder: Path, account: Account) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, account.user, account.group, follow_symlinks=False)


_LOG4J2 = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${sys:es.logs.base_path}/elasticsearch.log
appender.file.filePattern = ${sys:es.logs.base_path}/elasticsearch-%i.log.gz
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %-5p [%t] %c{1} - %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 20MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 5
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
