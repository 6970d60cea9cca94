"""The command for the vision-language engine that runs on a cluster."""

import argparse

from medsae_ray.commands.arguments import Commands


def add(commands: Commands) -> None:
    """Add this command to the command line."""
    command = commands.add_parser("engine", help="the vision-language engine that runs on a cluster: status, or stop")
    command.add_argument("action", choices=("status", "stop"), help="show the engine and its users, or end it")
    command.add_argument("--address", metavar="ADDRESS", help="the Ray cluster (RAY_ADDRESS, or this machine's)")
    command.add_argument("--force", action="store_true", help="stop it even if others use it")
    command.set_defaults(do=engine)


def engine(chosen: argparse.Namespace) -> int:
    """Print the engine's status, or stop it."""
    from medsae_ray.engine.command import engine_status, stop_engine

    if chosen.action == "stop":
        print(stop_engine(chosen.address, chosen.force))
        return 0
    print("\n".join(engine_status(chosen.address)))
    return 0
