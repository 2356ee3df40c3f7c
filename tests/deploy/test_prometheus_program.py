"""The programs of Debian's package `prometheus`: those on the path, else downloaded once."""

import pytest

from deploy.servers import prometheus
from deploy.servers.errors import ServerUnavailable


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A machine whose only programs beside the shell's are the given ones."""
    monkeypatch.setenv("RENDEZVOUS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("sh", "mkdir", "touch", "cp"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))

    def are(**scripts):
        for name, lines in scripts.items():
            program = folder / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{lines}\n")
            program.chmod(0o755)
        return folder

    return are


UNPACK = 'mkdir -p "$3/usr/bin" && cp "$2" "$3/usr/bin/promtool"'


def test_one_on_the_path_is_taken(programs):
    folder = programs(promtool="exit 0")
    assert prometheus.program("promtool") == folder / "promtool"


def test_it_is_downloaded_once_and_unpacked_into_the_cache(programs, tmp_path):
    programs(apt_get=f'echo x >> {tmp_path}/runs; echo p > "p.deb"', dpkg_deb=UNPACK)
    first, second = prometheus.program("promtool"), prometheus.program("promtool")
    assert first == second == tmp_path / "cache" / "prometheus" / "usr" / "bin" / "promtool"
    assert first.read_text() == "p\n"
    assert (tmp_path / "runs").read_text() == "x\n"


def test_where_the_lists_of_packages_are_missing_it_fetches_some_of_its_own(programs, tmp_path):
    script = f"""
echo "$@" >> {tmp_path}/runs
case "$*" in
  *Dir::State::lists=*update) touch updated;;
  *Dir::State::lists=*download*) cp updated p.deb;;
  *) exit 100;;
esac"""
    programs(apt_get=script, dpkg_deb=UNPACK)
    assert prometheus.program("promtool").exists()
    assert len((tmp_path / "runs").read_text().splitlines()) == 3


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
def test_says_what_to_install_where_there_is_no_debian(programs, missing):
    folder = programs(apt_get="exit 0", dpkg_deb="exit 0")
    (folder / missing).unlink()
    with pytest.raises(ServerUnavailable, match="install prometheus and promtool"):
        prometheus.program("prometheus")


def test_says_what_apt_says_when_the_download_fails(programs, tmp_path):
    programs(apt_get="echo no route to host; exit 100", dpkg_deb="exit 0")
    with pytest.raises(ServerUnavailable, match=r"could not fetch(.|\n)*no route to host"):
        prometheus.program("prometheus")
    assert not (tmp_path / "cache" / "prometheus").exists()


def test_a_package_that_cannot_be_unpacked_is_not_taken_for_a_whole_one(programs, tmp_path):
    programs(apt_get="echo p > p.deb", dpkg_deb='mkdir "$3"; echo corrupt archive; exit 2')
    with pytest.raises(ServerUnavailable, match="corrupt archive"):
        prometheus.program("prometheus")
    assert not (tmp_path / "cache" / "prometheus").exists()
