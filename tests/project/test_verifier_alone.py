"""That an auditor needs the standard library, cryptography and key_registry, and nothing else."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import key_registry

RIM = {"store", "migrations"}
CORE = sorted(module.name for module in pkgutil.iter_modules(key_registry.__path__) if module.name not in RIM)

# The other packages of the tests' environment are there, but come as if they were not.
ALONE = f"""
import sys
class Absent:
    allowed = {{*sys.stdlib_module_names, "cryptography", "cffi", "_cffi_backend", "key_registry"}}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in cls.allowed:
            raise ModuleNotFoundError(f"an auditor has no {{name}}", name=name)
sys.meta_path.insert(0, Absent)
sys.path.insert(0, {str(Path(key_registry.__path__[0]).parent)!r})
"""


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` where nothing but the standard library, cryptography and key_registry is installed."""
    command = [sys.executable, "-I", "-c", ALONE + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_other_packages_are_really_absent() -> None:
    """The environment of these tests refuses what an auditor does not have."""
    assert "an auditor has no psycopg" in alone("import key_registry.store").stderr


@pytest.mark.parametrize("module", CORE)
def test_core_module_imports_alone(module: str) -> None:
    """Each module of the core imports without database, gRPC or HSM packages."""
    done = alone(f"import key_registry.{module}")
    assert (done.returncode, done.stderr) == (0, "")


def test_witness_verify_runs_alone() -> None:
    """The auditor's program starts and explains itself."""
    done = alone("""
from key_registry.verify import main
sys.argv = ["witness-verify", "--help"]
raise SystemExit(main())
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: witness-verify" in done.stdout
