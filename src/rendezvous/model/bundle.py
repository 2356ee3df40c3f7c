"""A model's directory ``models/<name>/<version>/``: the model's file and ``manifest.json``."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rendezvous.errors import BundleError
from rendezvous.model.manifest import MODEL_FILES, Manifest

if TYPE_CHECKING:
    from rendezvous.model.port import Model

MANIFEST = "manifest.json"
MANIFEST_MOST = 1 << 20
MODEL_MOST = 2 << 30


def write(models: Path, manifest: Manifest, model: bytes, *, replace: bool = False) -> Path:
    """Write a bundle, whole or not at all; one that it replaces stays until then.

    Args:
        models: Directory of all bundles.
        manifest: What is known of the model; its ``files`` are filled in.
        model: The bytes of the model's file.
        replace: Put it in the place of one of the same name and version.

    Returns:
        The bundle's directory.

    Raises:
        BundleError: There is one of that name and version, or it cannot be written.
    """
    bundle = models / manifest.name / str(manifest.version)
    if bundle.exists() and not replace:
        raise BundleError(f"{bundle} is there already; a version is not changed once it is used")
    name = MODEL_FILES[manifest.format]
    sealed = manifest.model_copy(update={"files": {name: hashlib.sha256(model).hexdigest()}})
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{manifest.version}-", dir=bundle.parent))
        try:
            _write(staging / name, model)
            _write(staging / MANIFEST, sealed.model_dump_json(indent=2).encode() + b"\n")
            staging.chmod(0o755)
            _put(staging, bundle)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"{bundle}: {error}") from error
    return bundle


def read_manifest(bundle: Path) -> Manifest:
    """Return the manifest of a bundle, without a look at the model.

    Raises:
        BundleError: It is not there, or not as a manifest must be.
    """
    content = _read(bundle / MANIFEST, MANIFEST_MOST)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{bundle / MANIFEST}: {where}: {first['msg']}") from error
    if set(manifest.files) != {MODEL_FILES[manifest.format]}:
        raise BundleError(f"{bundle / MANIFEST}: files: must name the model's file, and only it")
    return manifest


def load(bundle: Path, *, allow_joblib: bool = False) -> Model:
    """Return the model of a bundle; the bytes that are loaded are those that were verified.

    Args:
        bundle: The bundle's directory.
        allow_joblib: Whether a pickle may be loaded. It can run any code: only where everyone who
            can write to the directory is trusted.

    Raises:
        BundleError: A file is missing, altered, not named in the manifest, or a symbolic link; or
            it is a pickle and not allowed.
    """
    manifest = read_manifest(bundle)
    name = MODEL_FILES[manifest.format]
    strangers = {path.name for path in bundle.iterdir()} - {name, MANIFEST}
    if strangers:
        raise BundleError(f"{bundle}: not in the manifest: {', '.join(sorted(strangers))}")
    if manifest.format == "joblib" and not allow_joblib:
        raise BundleError(f"{bundle}: is a pickle, which can run any code; allow_joblib is not set")
    content = _read(bundle / name, MODEL_MOST)
    if hashlib.sha256(content).hexdigest() != manifest.digest:
        raise BundleError(f"{bundle / name}: is not the file that the manifest describes (sha256)")
    if manifest.format == "joblib":
        from rendezvous.model.sklearn import load_joblib  # noqa: PLC0415 - an extra of its own

        return load_joblib(manifest, content)
    from rendezvous.model.onnx import OnnxModel  # noqa: PLC0415 - an extra of its own

    return OnnxModel(manifest, content)


def _put(staging: Path, bundle: Path) -> None:
    """Rename ``staging`` to ``bundle``; what was there is deleted after that, or put back."""
    retired = staging.with_name(f"{staging.name}-retired")
    try:
        if bundle.exists():
            bundle.rename(retired)
        staging.rename(bundle)
    except BaseException:  # also when interrupted, at either rename
        if retired.exists() and not bundle.exists():
            retired.rename(bundle)
        raise
    finally:
        if bundle.exists():
            shutil.rmtree(retired, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def _read(path: Path, most: int) -> bytes:
    """Return the bytes of a file, which must not be a link: it could change what is loaded."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if len(content) > most:
        raise BundleError(f"{path}: is larger than {most} bytes")
    return content
