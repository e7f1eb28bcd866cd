"""The curves of a training, by DVCLive."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dvclive
from scmrepo.exceptions import SCMError

from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.training.fit import LogEpoch


@contextmanager
def curves(folder: Path) -> Iterator[LogEpoch]:
    """Yield a function that logs the mean losses of an epoch in a folder.

    If several processes train together, only the first one writes.

    Raises
    ------
    InputError
        In a git repository without a commit, which DVCLive refuses.
    """
    if not runtime.is_main_process():
        yield lambda _: None
        return
    try:
        live = dvclive.Live(str(folder), dvcyaml=False, save_dvc_exp=False, report=None)
    except SCMError as error:
        raise InputError(
            f"DVCLive cannot write the curves ({error}): a git repository needs a first commit; "
            "make one with git add --all && git commit, then run again"
        ) from None
    with live:
        yield partial(_log, live)


def _log(live: dvclive.Live, means: Mapping[str, float]) -> None:
    for name, value in means.items():
        live.log_metric(name, value, timestamp=False)
    live.next_step()  # type: ignore[no-untyped-call]
