"""Apache Pulsar, standalone: a broker and a bookie in one process, every message fsynced."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from deploy.servers.container import ANY_ADDRESS, Plan
from deploy.servers.distribution import Distribution
from deploy.servers.ports import HOST
from deploy.servers.process import Launch
from deploy.servers.server import Server, get

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.servers.java import Java

VERSION = "4.0.8"
DEFAULT_PORT = 6650
DEFAULT_HTTP_PORT = 8080
_ANSWER_SECONDS = 5
_MEMORY = ("-Xms512m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m")
_OPENED = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.zip",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.platform",
    "java.base/sun.net",
    "java.management/sun.management",
    "jdk.management/com.sun.management.internal",
)


class Pulsar(Server):
    """Apache Pulsar on the loopback interface.

    Args:
        directory: As for `Server`.
        port: Of the binary protocol; None: the one that the directory remembers, else a free one.
        http_port: Of the admin interface; likewise.
    """

    name = "pulsar"
    product = f"Apache Pulsar {VERSION}"
    url_variable = "RENDEZVOUS_TEST_PULSAR_URL"
    image_variable = "PULSAR_IMAGE"
    default_image = f"apachepulsar/pulsar:{VERSION}"
    distribution = Distribution(
        product,
        f"org.apache.pulsar:pulsar-server-distribution:{VERSION}:tar.gz:bin",
        ("lib/", "bin/", "conf/"),  # a process needs only the first; an image, the others too
    )
    minimum_java = 17

    def __init__(
        self, directory: Path, port: int | None = None, http_port: int | None = None
    ) -> None:
        super().__init__(directory, {"broker": port, "http": http_port, "bookie": None})

    @property
    def url(self) -> str:
        """Where clients reach it, such as ``pulsar://127.0.0.1:6650``."""
        return f"pulsar://{HOST}:{self.ports['broker']}"

    @property
    def http_url(self) -> str:
        """Where the admin interface is, such as ``http://127.0.0.1:8080``."""
        return f"http://{HOST}:{self.ports['http']}"

    @staticmethod
    def answers(url: str) -> bool:
        """Return whether a broker at ``url`` knows its topics; its admin address is not known."""
        import pulsar  # noqa: PLC0415 - an extra of its own, which starting one does not take

        quiet = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)
        try:
            client = pulsar.Client(url, operation_timeout_seconds=_ANSWER_SECONDS, logger=quiet)
        except (pulsar.PulsarException, ValueError, RuntimeError):
            return False
        try:
            client.get_topic_partitions("persistent://public/default/models")
        except (pulsar.PulsarException, RuntimeError):
            return False
        finally:
            client.shutdown()
        return True

    def is_healthy(self) -> bool:
        """Return whether it publishes and reads a message, and its default namespace is there."""
        if get(f"{self.http_url}/admin/v2/brokers/health") != "ok":
            return False
        namespaces = get(f"{self.http_url}/admin/v2/namespaces/public")
        return namespaces is not None and "public/default" in namespaces

    def prepare_process(self) -> Launch:
        """Write ``standalone.conf`` and ``log4j2.xml``; return what ``bin/pulsar`` comes to."""
        java, home = self._java_and_home()
        self._conf.write_text(render_configuration(self.ports), encoding="utf-8")
        (self.directory / "log4j2.xml").write_text(_LOG4J2, encoding="utf-8")
        # Native libraries are unpacked there at each start; a killed broker leaves them behind.
        shutil.rmtree(self.directory / "tmp", ignore_errors=True)
        (self.directory / "tmp").mkdir()
        return Launch(java_command(java, home, self.directory, self.ports), self.directory)

    def prepare_container(self) -> Plan:
        """Write ``standalone.conf``; publish both ports on the loopback interface."""
        self._conf.write_text(render_configuration(self.ports, ANY_ADDRESS), encoding="utf-8")
        published = (self.ports["broker"], self.ports["http"])
        options = [f"--publish={HOST}:{port}:{port}" for port in published]
        options.append(f"--env=PULSAR_MEM={' '.join(_MEMORY)}")
        conf = "/pulsar/conf/standalone.conf"
        return Plan(
            options,
            ["bin/pulsar", "standalone", "--config", conf, "-nfw", "-nss", "-a", HOST],
            {conf: self._conf},
            "/pulsar/data",
        )

    @property
    def _conf(self) -> Path:
        return self.directory / "standalone.conf"

    def log_files(self) -> list[Path]:
        """Return its log."""
        return [self.directory / "logs" / "pulsar.log"]


def render_configuration(ports: Mapping[str, int], bind: str = HOST) -> str:
    """Return ``standalone.conf``: what differs from Pulsar's own defaults, and why."""
    return f"""\
clusterName=standalone
bindAddress={bind}
advertisedAddress={HOST}
brokerServicePort={ports["broker"]}
webServicePort={ports["http"]}

# One node: RocksDB keeps the metadata, one bookie keeps the messages.
metadataStoreUrl=
managedLedgerDefaultEnsembleSize=1
managedLedgerDefaultWriteQuorum=1
managedLedgerDefaultAckQuorum=1
ledgerStorageClass=org.apache.bookkeeper.bookie.storage.ldb.DbLedgerStorage
allowLoopback=true
loadBalancerEnabled=false
webSocketServiceEnabled=false
systemTopicEnabled=true
topicLevelPoliciesEnabled=true
diskUsageThreshold=0.99
diskUsageWarnThreshold=0.99
# Without this the bookie takes another port at each start, and its port is part of its identity.
allowEphemeralPorts=true
# With any value the bookie listens on the advertised address alone, not on every one.
listeningInterface=lo

# Durable without artificial waits: each message is fsynced before it is acknowledged, and neither
# the journal nor a reader waits on a timer. Two hops take about 1.5 ms instead of 10.5.
journalSyncData=true
journalMaxGroupWaitMSec=0
journalFlushWhenQueueEmpty=true
managedLedgerNewEntriesCheckDelayInMillis=0
managedLedgerCursorPositionFlushSeconds=1
# Of messages that travelled together, what was acked does not come again with the others.
acknowledgmentAtBatchIndexLevelEnabled=true

# Nothing is lost: a topic outlives its clients, a message its readers; a full disk stops producers
# instead of dropping what nobody has read yet.
allowAutoTopicCreation=true
brokerDeleteInactiveTopicsEnabled=false
brokerDeduplicationEnabled=true
defaultRetentionTimeInMinutes=1440
defaultRetentionSizeInMB=2048
backlogQuotaDefaultLimitGB=10
backlogQuotaDefaultRetentionPolicy=producer_exception
"""


def java_command(java: Java, home: Path, directory: Path, ports: Mapping[str, int]) -> list[str]:
    """Return the command that runs a standalone Pulsar.

    Args:
        java: What it runs on.
        home: The unpacked distribution.
        directory: For configuration, data and logs.
        ports: ``broker``, ``http`` and ``bookie``.
    """
    # From Java 23 on this access, which Netty needs, is off or warned about unless it is allowed.
    unsafe = ["--sun-misc-unsafe-memory-access=allow"] if java.major >= 23 else []  # noqa: PLR2004
    return [
        *(str(java.executable), *_MEMORY, "-XX:+ExitOnOutOfMemoryError", *unsafe),
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.net.preferIPv4Stack=true",
        "-Dio.netty.tryReflectionSetAccessible=true",
        "-Dorg.apache.pulsar.shade.io.netty.tryReflectionSetAccessible=true",
        "-Dlog4j2.is.webapp=false",
        "-Dlog4j.shutdownHookEnabled=false",
        f"-Dlog4j2.configurationFile={directory / 'log4j2.xml'}",
        f"-Drendezvous.logs={directory / 'logs'}",
        f"-Djava.io.tmpdir={directory / 'tmp'}",
        *("-cp", f"{home / 'lib'}/*", "org.apache.pulsar.PulsarStandaloneStarter"),
        *("--config", str(directory / "standalone.conf")),
        *("--metadata-dir", str(directory / "data" / "metadata")),
        *("--bookkeeper-dir", str(directory / "data" / "bookkeeper")),
        *("--bookkeeper-port", str(ports["bookie"])),
        *("--no-functions-worker", "--no-stream-storage", "-a", HOST),
    ]


_LOG4J2 = """\
<Configuration status="warn">
  <Appenders>
    <RollingFile name="file" fileName="${sys:rendezvous.logs}/pulsar.log"
                 filePattern="${sys:rendezvous.logs}/pulsar-%i.log.gz">
      <PatternLayout pattern="%d{ISO8601} %-5p [%t] %c{1} - %m%n"/>
      <Policies><SizeBasedTriggeringPolicy size="20MB"/></Policies>
      <DefaultRolloverStrategy max="5"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="org.apache.pulsar" level="info"/>
    <Root level="warn"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""
