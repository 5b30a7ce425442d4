"""The tree of commands. Each command imports what it needs when it runs, so that help and errors come at once."""

from __future__ import annotations

import typer

from witness_service import exit_codes
from witness_service.cli import bundle, evidence, get, keys, rotate, run, sign, status

EPILOG = f"""Where the service is: --address, --state, WITNESS_ADDRESS, WITNESS_STATE, .witness;
the first one given. Colours are used on a terminal only, and never when NO_COLOR is set.

\b
Exit codes:
{exit_codes.table()}

\b
Example:
  witness dev &
  witness sign --stream orders --sequence 0 --file order.json
  witness evidence orders 0 --output order.tlog-proof && witness bundle --output bundle.json
"""

app = typer.Typer(
    help="Have events attested by witnesses whose keys are in an HSM, and show what was attested.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    # The coloured help costs more time than most commands.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(
    help="Show the history of the witness keys, and change them.", no_args_is_help=True, rich_markup_mode=None
)

app.command("sign", short_help="Have events attested.")(sign.sign)
app.command("get", short_help="Show what was signed for a place.")(get.get)
app.command("evidence", short_help="Write .tlog-proof files that can be judged offline.")(evidence.evidence)
app.command("bundle", short_help="Write bundle.json, which they are judged with.")(bundle.bundle)
app.command("status", short_help="Show what the service is and whether it can sign.")(status.status)
app.add_typer(keys_app, name="keys")
keys_app.command("list", short_help="List every key version there has ever been.")(keys.list_keys)
keys_app.command("history", short_help="Show the key records and states, now or earlier.")(keys.history)
keys_app.command("rotate", short_help="Replace a witness's key.")(rotate.rotate)
app.command("dev", short_help="Run the whole service in one folder, for trying out.")(run.dev)
app.command("serve", short_help="Run the service of a configuration file.")(run.serve)
app.command("migrate", short_help="Bring the database schema up to date.")(run.migrate)
