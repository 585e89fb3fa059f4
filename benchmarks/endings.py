"""How a script of this folder ends: an error of the user is one line and exit code 2, as with ``vaebm`` itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vaebm.cli.main import explain


def ended(main: Callable[[], int | None]) -> int:
    """Runs a script's main function, and returns the exit code."""
    try:
        return main() or 0
    except subprocess.CalledProcessError as error:
        # It has said what is wrong.
        return int(error.returncode)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"{Path(sys.argv[0]).stem}: {' '.join(message.split())}", file=sys.stderr)
        return 2
