"""Build the stand-in images, each once for its content.

An image carries the digest of all that it was made from: its folder here, the image it stands on,
the server that it holds. What is there under its tag with the same digest is not built again.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.engine.errors import EngineError
from deploy.engine.packages import install, mirror
from deploy.servers.distribution import fetch
from deploy.servers.elasticsearch import VERSION as ELASTICSEARCH_VERSION
from deploy.servers.elasticsearch import Elasticsearch
from deploy.servers.java import find
from deploy.servers.pulsar import VERSION as PULSAR_VERSION
from deploy.servers.pulsar import Pulsar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.engine.engine import Engine
    from deploy.servers.server import Server

_LOG = logging.getLogger(__name__)
_HERE = Path(__file__).resolve().parent
_LABEL = "rendezvous.digest"
_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

SUITE = "trixie"
BASE = f"rendezvous-standin/debian:{SUITE}"
PYTHON = "rendezvous-standin/python:3.13"
JRE = "rendezvous-standin/jre:21"
PULSAR = f"rendezvous-standin/pulsar:{PULSAR_VERSION}"
ELASTICSEARCH = f"rendezvous-standin/elasticsearch:{ELASTICSEARCH_VERSION}"
PROMETHEUS = f"rendezvous-standin/prometheus:{SUITE}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image with a Dockerfile in a folder here.

    Attributes:
        tag: Its name.
        base: The tag of the image it stands on.
        server: Whose official distribution it holds, if one's.
    """

    tag: str
    base: str
    server: type[Server] | None = None

    @property
    def folder(self) -> Path:
        """Its folder, named as the image."""
        return _HERE / self.tag.split("/")[1].split(":")[0]


IMAGES = (
    Image(PYTHON, BASE),
    Image(JRE, BASE),
    Image(PULSAR, JRE, Pulsar),
    Image(ELASTICSEARCH, JRE, Elasticsearch),
    Image(PROMETHEUS, BASE),
)
TAGS = (BASE, *(image.tag for image in IMAGES))


def build_all(engine: Engine) -> None:
    """Build what is not there yet.

    Raises:
        RendezvousError: A package or distribution cannot be had, or a build failed.
    """
    digests = {BASE: _base_digest()}
    if not _is_there(engine, BASE, digests[BASE]):
        _build_base(engine, digests[BASE])
    for image in IMAGES:
        digests[image.tag] = _digest(image, digests[image.base])
        if not _is_there(engine, image.tag, digests[image.tag]):
            _build(engine, image, digests[image.tag])


def _is_there(engine: Engine, tag: str, digest: str) -> bool:
    label = engine.run(
        "image", "inspect", "--format", f'{{{{index .Config.Labels "{_LABEL}"}}}}', tag
    )
    return label.returncode == 0 and label.stdout.strip() == digest


def _build(engine: Engine, image: Image, digest: str) -> None:
    _LOG.info("building %s ...", image.tag)
    contexts = []
    if image.server is not None:
        folder = fetch(image.server.distribution, find(image.server.minimum_java, image.tag).home)
        contexts = ["--build-context", f"distribution={folder}"]
    engine.must(
        "buildx", "build", "--quiet", "--load", "--tag", image.tag, "--label", f"{_LABEL}={digest}",
        "--build-arg", f"BASE={image.base}", *contexts, str(image.folder),
    )  # fmt: skip


def _build_base(engine: Engine, digest: str) -> None:
    """Make a minimal Debian from packages alone.

    It gets this machine's own certificates: where a proxy ends TLS, whatever is installed in a
    build comes through it.
    """
    if shutil.which("mmdebstrap") is None:
        install("mmdebstrap")
    _LOG.info("building %s ...", BASE)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "root.tar"
        done = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"),
                "--aptopt=Acquire::Languages none",
                f'--customize-hook=mkdir -p "$1{_CERTIFICATES}"',
                *(f'--customize-hook=cp "{path}" "$1{_CERTIFICATES}/"' for path in _certificates()),
                '--customize-hook=chroot "$1" update-ca-certificates >/dev/null',
                *(SUITE, str(archive), mirror()),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EngineError(f"{BASE} could not be made:\n{done.stderr[-1500:]}")
        changes = [f"LABEL {_LABEL}={digest}", 'CMD ["bash"]']
        variables = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
        changes += [f"ENV {name}={_BUNDLE}" for name in variables]
        options = [word for change in changes for word in ("--change", change)]
        engine.must("import", *options, str(archive), BASE)


def _certificates() -> list[Path]:
    return sorted(_CERTIFICATES.glob("*.crt"))


def _base_digest() -> str:
    parts = [SUITE.encode(), Path(__file__).read_bytes()]
    return _sha256(parts + [path.read_bytes() for path in _certificates()])


def _digest(image: Image, base: str) -> str:
    server = image.server.distribution.coordinates if image.server else ""
    return _sha256([base.encode(), server.encode(), *_contents(image.folder)])


def _contents(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.name.encode()
            yield path.read_bytes()


def _sha256(parts: list[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()
