"""A project folder with freshly trained models, and processes that run in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TRAININGS = [
    "Iris LogisticRegression",
    "Iris DecisionTree",
    "Iris RandomForest",
    "Housing RandomForest --name price --version 1",
]


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A models folder with lr 0, dt 1, rf 2 and price 1, trained by the project's command."""
    folder = tmp_path_factory.mktemp("trained") / "models"
    for training in TRAININGS:
        command = [sys.executable, "-m", "training", *training.split(), "--models-dir", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory, models) -> Path:
    """A folder with ``rendezvous.yaml`` and ``models``, to run services with."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "rendezvous.yaml", folder)
    (folder / "models").symlink_to(models)
    return folder
