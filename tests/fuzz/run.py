"""Mutate the input of a reader many times, and count what becomes of it."""

import random
import signal
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.common.errors import MAX_LENGTH, InputError
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader

SECONDS = 20  # of processor time that a mutation may take
WAITING = 600  # seconds after which it is taken to wait for something, also on a busy machine
MEMORY = Path("/dev/shm")  # on a disk, most of the time would go into writing files
REFUSED, VALID, ELSE = "refused in one line", "valid", "anything else"


class Outcome(NamedTuple):
    """How often each thing happened, and what was said of the first few of `ELSE`."""

    counts: Counter[str]
    examples: list[str]


def fuzz(reader: Reader, count: int, seed: int) -> Outcome:
    """Try a reader on `count` mutations of its input."""
    rng, counts, examples = random.Random(seed), Counter[str](), []
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        files = reader.write(Path(folder))
        expected = reader.read(Path(folder))
        for _ in range(count):
            file = rng.choice(files)
            good = file.read_bytes()
            file.write_bytes(mutated(good, rng))
            result, said = attempt(reader, Path(folder), expected)
            counts[result] += 1
            if result == ELSE and len(examples) < 5:
                examples.append(f"{file.name}, {said}")
            file.write_bytes(good)
    return Outcome(counts, examples)


def attempt(reader: Reader, folder: Path, expected: Any) -> tuple[str, str]:
    """Read once; return what happened, and a description of it."""
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAITING)
    try:
        try:
            read = reader.read(folder)
        except InputError as error:
            said = str(error)
            one_line = len(said.splitlines()) == 1 and len(said) <= MAX_LENGTH + 5
            return (REFUSED, "") if one_line else (ELSE, said)
    except BaseException:
        return ELSE, traceback.format_exc(limit=-3)[-2000:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    if reader.exact and read != expected:
        return ELSE, f"read as something else: {read}"
    return VALID, ""


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds of work, or {WAITING} of waiting")
