"""The tree of commands. Each command imports what it needs when it runs, so that help and errors come at once."""

from __future__ import annotations

import typer

from witness_service import exit_codes
from witness_service.cli import (
    bundle,
    decide,
    drill,
    evidence,
    genesis,
    get,
    keys,
    lead,
    proposals,
    propose,
    publish,
    rotate,
    run,
    sign,
    status,
    stop,
)

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
propose_app = typer.Typer(
    help="Propose a change for the security leads to decide on, shown as what they sign.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
lead_app = typer.Typer(
    help="Make and use a security lead's key, on the lead's own machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
genesis_app = typer.Typer(
    help="Found a registry: its first record, signed by every lead.", no_args_is_help=True, rich_markup_mode=None
)

app.command("sign", short_help="Have events attested.")(sign.sign)
app.command("get", short_help="Show what was signed for a place.")(get.get)
app.command("evidence", short_help="Write .tlog-proof files that can be judged offline.")(evidence.evidence)
app.command("bundle", short_help="Write bundle.json, which they are judged with.")(bundle.bundle)
app.command("publish", short_help="Publish the logs in a folder that any web server can serve.")(publish.publish)
app.command("status", short_help="Show what the service is and whether it can sign.")(status.status)
app.add_typer(keys_app, name="keys")
keys_app.command("list", short_help="List every key version there has ever been.")(keys.list_keys)
keys_app.command("history", short_help="Show the key records and states, now or earlier.")(keys.history)
keys_app.command("rotate", short_help="Replace a witness's key.")(rotate.rotate)
keys_app.add_typer(propose_app, name="propose")
propose_app.command("rotate", short_help="A new key for a witness.")(propose.rotate)
propose_app.command("add-witness", short_help="A new witness.")(propose.add_witness)
propose_app.command("retire", short_help="Close a key without a successor.")(propose.retire)
propose_app.command("compromise", short_help="Distrust a key from a position on.")(propose.compromise)
propose_app.command("leads", short_help="Other leads, or another threshold.")(propose.leads)
propose_app.command("policy", short_help="Another cosigner policy, or new log keys.")(propose.policy)
propose_app.command("destroyed", short_help="Record that a private key was destroyed.")(propose.destroyed)
propose_app.command("resume", short_help="Let a stopped key sign again.")(propose.resume)
propose_app.command("again", short_help="Propose once more what ended without effect.")(propose.again)
keys_app.command("approve", short_help="Sign a proposal with a lead's key.")(decide.approve)
keys_app.command("reject", short_help="Say no to a proposal as a lead.")(decide.reject)
keys_app.command("abort", short_help="End a proposal that has no quorum yet.")(decide.abort)
keys_app.command("proposals", short_help="List the proposals that wait for leads.")(proposals.list_proposals)
keys_app.command("show", short_help="Show a proposal in words.")(proposals.show)
keys_app.command("stop", short_help="Stop a key at once, on one lead's word.")(stop.stop)
keys_app.command("drill", short_help="Rehearse a rotation from end to end.")(drill.drill)
app.add_typer(lead_app, name="lead")
lead_app.command("keygen", short_help="Make a lead's key file.")(lead.keygen)
lead_app.command("show", short_help="Show a lead's key, and write its public half.")(lead.show)
lead_app.command("sign", short_help="Sign the draft of a registry.")(lead.sign)
app.add_typer(genesis_app, name="genesis")
genesis_app.command("draft", short_help="Make the log keys and write what every lead signs.")(genesis.draft)
genesis_app.command("store", short_help="Store the record that every lead has signed.")(genesis.store)
app.command("dev", short_help="Run the whole service in one folder, for trying out.")(run.dev)
app.command("serve", short_help="Run the service of a configuration file.")(run.serve)
app.command("migrate", short_help="Bring the database schema up to date.")(run.migrate)
