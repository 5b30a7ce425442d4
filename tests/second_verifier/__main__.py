"""`python -m tests.second_verifier --bundle FILE --registry-id HEX EVIDENCE...` prints the code of each file.

Exits with the worst outcome: 0 all valid, 2 something cannot be decided, 1 something is invalid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .verifier import outcome, verify


def main() -> int:
    parser = argparse.ArgumentParser(description="Judge evidence by a registry bundle.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--registry-id", required=True)
    parser.add_argument("--event-hash")
    parser.add_argument("--accept", dest="environments", action="append", help="environment; default: production")
    parser.add_argument("evidence", type=Path, nargs="+")
    options = parser.parse_args()
    bundle, worst = options.bundle.read_bytes(), 0
    for file in options.evidence:
        environments = options.environments or ["production"]
        judged = verify(bundle, options.registry_id, file.read_bytes(), options.event_hash, environments)
        print(judged.code, file)
        worst = max(worst, outcome(judged.code), key=[0, 2, 1].index)
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
