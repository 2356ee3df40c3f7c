import pytest

from deploy.servers import java


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    """A machine without Java, Maven or a container engine."""
    monkeypatch.setattr(java, "_INSTALLED", ())
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("RENDEZVOUS_CACHE", str(tmp_path / "cache"))
