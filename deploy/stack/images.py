"""Which images the system runs on: the user's choice, else the official one, else a stand-in.

What had to be replaced is written to ``.env``, which docker compose reads by itself: so its own
commands, such as ``docker compose up --scale dt_model=3``, mean the same images.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dotenv import dotenv_values, set_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_LOG = logging.getLogger(__name__)
STANDIN = "rendezvous-standin/"
"""How the names of stand-ins begin."""
_DEFAULT = re.compile(r"\$\{([A-Z]+_IMAGE):-([^}]+)\}")


class Store(Protocol):
    """What has images."""

    def has(self, image: str) -> bool:
        """Return whether the image is here already."""
        ...

    def pull(self, image: str) -> bool:
        """Get the image; return whether that was possible."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """What was found.

    Attributes:
        standins: By variable, the images that replace official ones.
        missing: By variable, the images that can not be had.
    """

    standins: Mapping[str, str]
    missing: Mapping[str, str]


def official(compose_file: str) -> dict[str, str]:
    """Return, by variable, the image that the compose file names where the variable is not set.

    Those of the project itself, which are built and have no version, are none of them.
    """
    return {name: image for name, image in _DEFAULT.findall(compose_file) if ":" in image}


def choose(
    store: Store, images: Mapping[str, str], chosen: Mapping[str, str], standins: Mapping[str, str]
) -> Choice:
    """Find each image, pulling what is not here.

    Args:
        store: Has images, and pulls them.
        images: By variable, the official ones.
        chosen: By variable, what the user wants in their place; never replaced.
        standins: By variable, what may replace an official one.
    """
    replaced: dict[str, str] = {}
    missing: dict[str, str] = {}
    for variable, image in images.items():
        wanted = chosen.get(variable) or image
        if wanted in standins.values() or store.has(wanted) or store.pull(wanted):
            continue
        if wanted == image and variable in standins:
            replaced[variable] = standins[variable]
        else:
            missing[variable] = wanted
    return Choice(replaced, missing)


def chosen_here(file: Path, variables: Iterable[str]) -> dict[str, str]:
    """Return what ``.env`` and, before it, this process's environment say of ``variables``."""
    known = {**dotenv_values(file), **os.environ}
    return {name: value for name in variables if (value := known.get(name))}


def without_old_standins(chosen: Mapping[str, str], standins: Mapping[str, str]) -> dict[str, str]:
    """Leave out stand-ins of another version, which an earlier `make up` wrote down."""
    return {
        name: image
        for name, image in chosen.items()
        if not image.startswith(STANDIN) or image in standins.values()
    }


def remember(file: Path, images: Mapping[str, str]) -> None:
    """Write the choice to ``.env``; what else is in it stays."""
    for variable, image in images.items():
        set_key(file, variable, image, quote_mode="never")
        _LOG.info("%s can not be pulled; %s says now: %s", variable, file.name, image)
