"""A project folder with freshly trained models, and processes that run in it."""

import shutil
from pathlib import Path

import pytest

from training.train import Plan, train

ROOT = Path(__file__).resolve().parent.parent.parent
PLANS = [
    Plan("Iris", "LogisticRegression"),
    Plan("Iris", "DecisionTree"),
    Plan("Iris", "RandomForest"),
    Plan("Housing", "RandomForest", name="price", version=1),
]


@pytest.fixture(scope="package", autouse=True)
def unmeasured():
    """Let the services run at their own speed: measuring their coverage would slow them tenfold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A models folder with lr 0, dt 1, rf 2 and price 1."""
    folder = tmp_path_factory.mktemp("trained") / "models"
    for plan in PLANS:
        train(plan, folder, lambda done, of: None)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory, models) -> Path:
    """A folder with ``rendezvous.yaml`` and ``models``, to run services with."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "rendezvous.yaml", folder)
    (folder / "models").symlink_to(models)
    return folder
