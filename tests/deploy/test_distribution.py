"""Distributions: downloaded once, whole or not at all."""

import io
import os
import stat
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.servers.distribution import Distribution, fetch, unpack
from deploy.servers.errors import ServerUnavailable

FILES = {"top/lib/a.jar": b"a", "top/bin/run": b"#!/bin/sh", "top/README": b"r"}
SMALL = Distribution("Thing 1", "g:thing:1:tar.gz", keep=("lib/",))


@pytest.fixture(params=["tar.gz", "zip"])
def archive(request, tmp_path):
    path = tmp_path / f"archive.{request.param}"
    (_tar if request.param == "tar.gz" else _zip)(path, FILES)
    return path


def test_is_unpacked_without_its_top_folder(archive, tmp_path):
    unpack(archive, tmp_path / "out")
    assert _tree(tmp_path / "out") == {
        "lib/a.jar": b"a",
        "bin/run": b"#!/bin/sh",
        "README": b"r",
    }
    assert os.access(tmp_path / "out" / "bin" / "run", os.X_OK)
    assert not os.access(tmp_path / "out" / "README", os.X_OK)


def test_only_what_is_kept_is_unpacked(archive, tmp_path):
    unpack(archive, tmp_path / "out", keep=("lib/", "README"))
    assert set(_tree(tmp_path / "out")) == {"lib/a.jar", "README"}


def test_cannot_write_outside_of_its_folder(tmp_path):
    _tar(tmp_path / "bad.tar", {"top/../../escaped": b"x", "top/good": b"y"})
    unpack(tmp_path / "bad.tar", tmp_path / "out")
    assert set(_tree(tmp_path / "out")) == {"good"}
    assert not (tmp_path / "escaped").exists()


@pytest.fixture
def maven(tmp_path, monkeypatch):
    """A command `mvn` that does what the given shell lines say."""
    monkeypatch.setenv("RENDEZVOUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")
    _tar(tmp_path / "thing.tar.gz", FILES)

    def does(lines):
        command = tmp_path / "programs" / "mvn"
        command.parent.mkdir(exist_ok=True)
        command.write_text(
            f"#!/bin/sh\nhere={tmp_path}\n"
            "for a; do case $a in -DoutputDirectory=*) out=${a#*=};; esac; done\n" + lines
        )
        command.chmod(0o755)

    return does


def test_is_downloaded_once_by_two_at_the_same_time(maven, tmp_path):
    maven('echo x >> "$here/runs"; sleep 0.3; cp "$here/thing.tar.gz" "$out"')
    with ThreadPoolExecutor(2) as pool:
        homes = set(pool.map(lambda _: fetch(SMALL, Path("/java")), range(2)))
    assert homes == {tmp_path / "cache" / "thing-1-lib"}
    assert (tmp_path / "cache" / "thing-1-lib" / "lib" / "a.jar").read_bytes() == b"a"
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_download_that_was_cut_off_is_done_again(maven, tmp_path):
    maven('printf half > "$out/thing.tar.gz"; echo no route to host; exit 1')
    with pytest.raises(ServerUnavailable, match=r"could not fetch g:thing:1(.|\n)*no route"):
        fetch(SMALL, Path("/java"))
    maven('cp "$here/thing.tar.gz" "$out"')
    home = fetch(SMALL, Path("/java"))
    assert (home / "lib" / "a.jar").read_bytes() == b"a"


def test_says_what_to_install_when_there_is_no_maven(no_programs):
    with pytest.raises(ServerUnavailable, match="install the package maven"):
        fetch(SMALL, Path("/java"))


def _tar(path, files):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if "bin/" in name else 0o600
            tar.addfile(member, io.BytesIO(content))


def _zip(path, files):
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            mode = 0o755 if "bin/" in name else 0o600
            entry.external_attr = (stat.S_IFREG | mode) << 16
            opened.writestr(entry, content)


def _tree(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
