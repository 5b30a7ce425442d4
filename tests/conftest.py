"""What all tests share: the fixtures in tests/fix_*.py, and how hypothesis searches."""

import os
from pathlib import Path

from hypothesis import settings

# The checkout is not on the import path; pytest's importlib mode makes `tests` a package all the same.
pytest_plugins = sorted(f"tests.{file.stem}" for file in Path(__file__).parent.glob("fix_*.py"))

# Time limits are pytest's matter: a token or a database on a busy machine is no counterexample.
settings.register_profile("searching", deadline=None)
# The same examples at every run, so that a failure belongs to the commit that shows it.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("repeatable" if os.environ.get("CI") else "searching")
