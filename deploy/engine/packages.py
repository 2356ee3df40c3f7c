"""Debian packages, installed by root from the sources that this machine has."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.engine.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG = logging.getLogger(__name__)
_LAST_CHARACTERS = 1500
_SOURCES = Path("/etc/apt/sources.list.d/rendezvous-engine.sources")
_PREFERENCES = Path("/etc/apt/preferences.d/rendezvous-engine")

ENGINE = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd")
"""The engine, its command line with its two plugins, and what runs containers for it."""


def install_engine() -> None:
    """Install the engine.

    Debian 12 has version 20, which lacks what the stack needs (`start_interval` of health checks);
    the packages of Debian 13 depend only on libraries that 12 has.

    Raises:
        EngineUnavailable: This is no Debian, we are not root, or a package could not be had.
    """
    _must_be_able("a Docker engine", "or install Docker Engine 25 or newer with its compose plugin")
    if codename() == "bookworm":
        _add_successor("trixie", ENGINE)
    _apt("update")
    # iptables: its own networks; the machine may have none of it.
    install(*ENGINE, "iptables")


def install(*packages: str) -> None:
    """Install packages, without what they merely recommend; nothing is removed for them.

    Raises:
        EngineUnavailable: As for `install_engine`.
    """
    _must_be_able(", ".join(packages), "or install them yourself")
    _LOG.info("installing %s ...", ", ".join(packages))
    try:
        _apt("install", "-y", "--no-remove", "--no-install-recommends", *packages)
    except EngineUnavailable:  # the lists of packages may be missing, or old
        _apt("update")
        _apt("install", "-y", "--no-remove", "--no-install-recommends", *packages)


def mirror() -> str:
    """Return the address of Debian's packages, as this machine is configured.

    Raises:
        EngineUnavailable: It has none.
    """
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],  # noqa: S607 - root's path
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in listed.stdout.splitlines() if "security" not in line]
    if not found:
        raise EngineUnavailable("apt has no source of packages configured")
    return found[0]


def codename() -> str:
    """Return the name of the Debian release, such as ``trixie``; empty for another system."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("VERSION_CODENAME", "").strip('"')


def _must_be_able(what: str, otherwise: str) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise EngineUnavailable(
            f"installing {what} takes root on Debian or a system like it: run it as root,"
            f" {otherwise}"
        )


def _add_successor(suite: str, packages: Sequence[str]) -> None:
    """Let ``packages``, and none else, come from ``suite``."""
    _SOURCES.write_text(
        _fields({
            "Types": "deb", "URIs": mirror(), "Suites": suite, "Components": "main",
            "Signed-By": "/usr/share/keyrings/debian-archive-keyring.gpg",
        }),
        encoding="utf-8",
    )  # fmt: skip
    others = _fields({"Package": "*", "Pin": f"release n={suite}", "Pin-Priority": "50"})
    these = {"Package": " ".join(packages), "Pin": f"release n={suite}", "Pin-Priority": "990"}
    _PREFERENCES.write_text(f"{others}\n{_fields(these)}", encoding="utf-8")


def _fields(fields: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _apt(*arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own arguments
        ["apt-get", "-q", *arguments],  # noqa: S607 - root's path
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EngineUnavailable(
            f"apt-get {' '.join(arguments)} failed:\n{done.stdout[-_LAST_CHARACTERS:]}"
        )
