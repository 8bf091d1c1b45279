"""A program that knows nothing of llmspan: it makes the recorded calls anew, through the real SDKs.

python tests/integration/replaying.py 1      every recording; 10 for every tenth
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from replay import Recording, call, client_for, recording_ids, transport

warnings.simplefilter("ignore")


def main(every: int) -> None:
    calls = 0
    for name in recording_ids()[::every]:
        recording = Recording.load(name)
        mock = transport(recording.response["status"], recording.response["headers"], recording.pieces)
        calls += 1
        try:
            with client_for(recording.provider, mock) as client:
                result = call(client, recording)
                if recording.streams:
                    for _ in result:
                        pass
        except Exception as error:  # what the provider said, and what the SDK made of it
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
    print(calls)


if __name__ == "__main__":
    main(int(sys.argv[1]))
