"""What a run folder holds before the first run: the study and copies of every file that it names.

The copied study names the copies, so that it runs again as it is. Equal studies give equal files.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from pathlib import Path

from hw_models.load import profile_path
from lowbit_sim.config.mac_config import product_files
from lowbit_sim.study.config import Study
from lowbit_sim.study.load_study import profile_references, renamed_product_files, study_toml, with_profiles
from lowbit_sim.study.records import profile_text

STUDY_FILE = "study.toml"


def run_files(study: Study) -> dict[str, bytes]:
    """The files by their paths in the folder: `study.toml`, `profiles/*.toml` and `products/*`.

    Args:
        study: The study, written as it is given: resolve it first.
    """
    products = _Copies("products")
    profiles = _profile_copies(study, products)
    names = {name: copy for name, (copy, _) in profiles.items()}
    kept = renamed_product_files(with_profiles(study, names.__getitem__), products)
    texts = {STUDY_FILE: study_toml(kept), **dict(profiles.values())}
    return {**{path: text.encode() for path, text in texts.items()}, **products.contents}


def study_digest(study: Study) -> str:
    """SHA-256 of the files: the same for equal studies, wherever their profiles lie."""
    digest = hashlib.sha256()
    for path, content in run_files(study).items():
        digest.update(f"{path} {len(content)}\0".encode() + content)
    return digest.hexdigest()


def _profile_copies(study: Study, products: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Path and text of the copy of each profile that a study names, by the name that it has now."""
    copies: dict[str, tuple[str, str]] = {}
    for _, name in profile_references(study):
        if name in copies:
            continue
        taken = {path for path, _ in copies.values()}
        stem = Path(name).name.removesuffix(".toml")
        copies[name] = _free("profiles", stem, ".toml", taken), _with_copied_products(name, products)
    return copies


def _with_copied_products(name: str, products: Callable[[str], str]) -> str:
    """A profile's text that names copies of its files of products, from a folder beside theirs."""
    text, folder = profile_text(name), profile_path(name).parent
    for file in dict.fromkeys(product_files(tomllib.loads(text))):
        copy = f"../{products(str(folder / file))}"
        text = text.replace(f'"{file}"', f'"{copy}"').replace(f"'{file}'", f"'{copy}'")
    return text


class _Copies:
    """Notes each file that it is called with for a folder of the run's, once, and returns its path from there."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.paths: dict[str, str] = {}
        self.contents: dict[str, bytes] = {}

    def __call__(self, file: str) -> str:
        if file not in self.paths:
            source = Path(file)
            path = _free(self.folder, source.stem, source.suffix, set(self.contents))
            self.paths[file], self.contents[path] = path, source.read_bytes()
        return self.paths[file]


def _free(folder: str, stem: str, suffix: str, taken: set[str]) -> str:
    """A path that is not taken: the second file of a name has "-2" behind it."""
    path, number = f"{folder}/{stem}{suffix}", 1
    while path in taken:
        number += 1
        path = f"{folder}/{stem}-{number}{suffix}"
    return path
