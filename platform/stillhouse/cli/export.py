"""`stillhouse export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import VerboseOption


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder of a saved ranker, a hub name, or an MLflow URI.")
    ],
    target: Annotated[str, typer.Option("--to", metavar="TARGET", help="sentence-transformers, pylate or onnx.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Made here; must not exist yet.")],
    push: Annotated[
        str | None, typer.Option("--push", metavar="HUB_NAME", help="Upload it to the hub under this name too.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A hub repository that is made is private.")] = False,
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="The MLflow store of an MLflow URI.")
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Write a ranker as another library opens it, with equal scores.

    What the target cannot express is named and refused. --push takes the token from HF_TOKEN or `hf auth login`.

    \b
    Examples:
      stillhouse export runs/demo/student --to sentence-transformers -o exported
      stillhouse export runs/demo/student --to onnx -o exported-onnx
      stillhouse export models:/my-ranker/3 --to sentence-transformers -o exported --push me/my-ranker --private
    """
    from stillhouse.errors import BackboneError

    if private and push is None:
        raise BackboneError("--private says how to push; give --push HUB_NAME too")
    if output.exists():
        raise BackboneError(f"--output {output}: is there already; name another folder, or remove it")
    if tracking is not None:
        os.environ["MLFLOW_TRACKING_URI"] = tracking
    from stillhouse.rankers import load_ranker
    from stillhouse.rankers.backbones import resolve
    from stillhouse.rankers.card import CARD, body_of, with_name
    from stillhouse.rankers.export import check_target
    from stillhouse.rankers.export import export as write
    from stillhouse.rankers.hub import check_name
    from stillhouse.rankers.hub import push as upload

    check_target(target)
    if push is not None:
        check_name(push)
    console = open_console()
    folder = resolve(model)
    card = folder / CARD
    write(load_ranker(folder), output, target, body_of(card.read_text()) if card.is_file() else "")
    console.print(f"{model} is in {output}, for {target}.", markup=False)
    if push is not None:
        (output / CARD).write_text(with_name((output / CARD).read_text(), push))
        console.print(f"Pushed to {upload(output, push, private=private)}", markup=False)
