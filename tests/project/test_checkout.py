"""What the files of the checkout may say."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Put together here, so that this file does not hold what it looks for.
INDEX_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("golang", "org"),
        ("anaconda", "org"),
    ]
]
MACHINE_PATHS = [f"/{folder}/" for folder in ("root", "home", "work", "Users")]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every file that is committed, or would be by `git add`."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    # A checkout that belongs to another account, such as one that CI mounted, is still ours to read.
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("forbidden", INDEX_HOSTS + MACHINE_PATHS)
def test_no_file_names_an_index_or_a_machine(files: list[Path], forbidden: str) -> None:
    """A checkout works wherever it lies and whatever index its machine installs from."""
    assert [str(file.relative_to(ROOT)) for file in files if forbidden.encode() in file.read_bytes()] == []


def test_what_bootstrap_makes_is_not_committed(files: list[Path]) -> None:
    """The virtual environment, build output and caches stay out of the repository."""
    made = {".venv", "dist", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    assert [file for file in files if made & set(file.relative_to(ROOT).parts)] == []


def test_every_folder_with_modules_is_a_package() -> None:
    """Without __init__.py a folder would still import, but the import contracts would not look into it."""
    packages = (ROOT / name for name in ("hsm", "key_registry", "witness_service"))
    folders = {module.parent for package in packages for module in package.rglob("*.py")}
    # Alembic loads these by path.
    folders.remove(ROOT / "key_registry" / "migrations" / "versions")
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
