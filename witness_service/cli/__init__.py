"""The command `witness`: the clients of the service, and the commands that run it."""


def main() -> None:
    """Run `witness` with the arguments of the process."""
    from witness_service.cli.app import app

    app(prog_name="witness")
