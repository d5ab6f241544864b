"""warmtalk verify-golden: compares this installation with recorded arrays of the reference program."""

from __future__ import annotations

import argparse
from pathlib import Path

from warmtalk.cli.requirements import requires_torch
from warmtalk.config import Config


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `verify-golden`."""
    verify = commands.add_parser(
        "verify-golden", help="check whether this machine computes the same as the reference program"
    )
    verify.add_argument("folder", type=Path, metavar="DIR", help="folder with manifest.json, arrays and inputs")
    verify.add_argument("--models", type=Path, metavar="DIR", help="weights that made the arrays (default: models_dir)")
    verify.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:0")
    verify.add_argument(
        "--dtype", default="fp32", choices=("fp32", "fp16", "bf16"), help="precision, with tolerances of its own"
    )
    verify.set_defaults(run=_verify)


@requires_torch
async def _verify(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.golden.verify import verify
    from warmtalk.models.device import describe, pick_device

    print("\n".join(describe(pick_device(args.device))))
    print(f"{'array':54} {'tolerance':24} {'largest':10} result")
    table, unchecked = verify(
        args.folder, args.models or config.models_dir, device=args.device, dtype=args.dtype, on_row=print
    )
    failed = sum(not row.passed for row in table.rows)
    if unchecked:
        print(f"no counterpart for {len(unchecked)} arrays, which were not compared: {', '.join(unchecked)}")
    print(f"{len(table.rows) - failed} of {len(table.rows)} pass" + ("" if table.passed else f", {failed} FAIL"))
    return 0 if table.passed else 1
