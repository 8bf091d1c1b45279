"""A program that knows nothing of llmspan: it makes the calls of all interactions, through the real SDKs.

python tests/integration/replaying.py 1      every interaction; 10 for every tenth
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from interaction import Interaction, interaction_ids
from replay import replay_sync

warnings.simplefilter("ignore")


def main(every: int) -> None:
    calls = 0
    for name in interaction_ids()[::every]:
        calls += 1
        try:
            replay_sync(Interaction.load(name))
        except Exception as error:  # what the provider said, and what the SDK made of it
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
    print(calls)


if __name__ == "__main__":
    main(int(sys.argv[1]))
