"""What the members of a cross-validated run say of the scans that they were not trained on.

Shapes: N scans, T tokens, E experts, C tissue classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import load_member, read_card, token_grid
from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.run_folder import read_run_table


@dataclass(frozen=True)
class OutOfFold:
    """The scans of a run, each as the members of its own fold see it.

    Parameters
    ----------
    table : DataFrame
        ``participant_id``, ``fold``, ``chronological_age`` and ``predicted_age`` (years), N rows.
    tokens : TokenGrid
        Where the tokens lie.
    years_nt : ndarray, shape (N, T)
        Years that each token contributes, means over the members.
    weights_nte : ndarray, shape (N, T, E)
        Routing weights of each fold's first member.
    fractions_ntc : ndarray, shape (N, T, C)
        Share of each token in each tissue class, as the fold's stem sees it.
    num_regional : int
        The first so many experts are tied to regions.
    """

    table: pd.DataFrame
    tokens: TokenGrid
    years_nt: Array
    weights_nte: Array
    fractions_ntc: Array
    num_regional: int


@torch.no_grad()
def read_out_of_fold(run: Path) -> OutOfFold:
    """Read a run of `cross-validate` and ask its members.

    Parameters
    ----------
    run : Path
        The run's folder, finished, with what it kept.

    Returns
    -------
    OutOfFold

    Raises
    ------
    UsageError
        If the folder holds no finished run, or what it kept is no longer there.
    """
    card = read_card(run)
    tokens = token_grid(card.model)
    tables = [read_run_table(path) for path in sorted(run.glob("fold-*_predictions.tsv"))]
    years, weights, fractions = [], [], []
    for table in tables:
        fold = int(table["fold"].iloc[0])
        kept = run / "kept" / f"fold-{fold}_described.safetensors"
        paths = sorted(run.glob(f"fold-{fold}_start-*.safetensors"))
        if not kept.is_file() or not paths:
            raise UsageError(
                f"{run}: fold {fold} must have its members and {kept.name} in kept; at least one "
                "is missing. Run `ermoe-ba cross-validate` on the same folder again."
            )
        described = load_file(kept)["test"][:, 0].float()
        outputs = [load_member(path, card.model, tokens).read_age(described) for path in paths]
        by_member = [output.contributions_bte.sum(dim=-1).numpy() for output in outputs]
        years.append(np.mean(by_member, axis=0))
        weights.append(outputs[0].routing.weights_bte.numpy())
        fractions.append(outputs[0].fractions_btc.numpy())
    if not tables:
        raise UsageError(f"{run}: must be a finished run of cross-validate; no fold's table found.")
    return OutOfFold(
        table=pd.concat(tables, ignore_index=True),
        tokens=tokens,
        years_nt=np.concatenate(years),
        weights_nte=np.concatenate(weights),
        fractions_ntc=np.concatenate(fractions),
        num_regional=len(card.model.regions),
    )
