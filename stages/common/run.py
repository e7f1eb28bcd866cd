"""A stage as a script: its exit status and its one-line errors."""

import errno
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from pipeline.common import runtime
from pipeline.common.errors import InputError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(stage: Callable[[], None], memory: str = "") -> None:
    """Run a stage as a script: exit status 1 and one line for an error that a user can fix.

    Parameters
    ----------
    memory : for a stage that computes on a GPU, the parameter that its memory there grows with.
    """
    runtime.keep_freed_memory()
    name = Path(sys.argv[0]).stem
    try:
        with runtime.device_memory(memory) if memory else nullcontext():
            stage()
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        is_full = error.errno in _DISK_FULL
        if not is_full and error.filename is None:
            raise
        where = error.filename or Path.cwd()
        advice = "; finished work is kept: make room and run again" if is_full else ""
        sys.exit(f"{name}: {InputError(f'{where}: {error.strerror}{advice}')}")
