"""Print a table of what becomes of mutated inputs: `python -m tests.fuzz [COUNT] [READER ...]`."""

import sys
import time

from tests.fuzz.readers import READERS
from tests.fuzz.run import ELSE, REFUSED, VALID, fuzz

COUNT = 20_000

count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
head = ("reader", "tried", REFUSED, VALID, ELSE, "s")
print(f"| {' | '.join(head)} |\n|---|---:|---:|---:|---:|---:|", flush=True)
failed = False
for name in sys.argv[2:] or READERS:
    begun = time.process_time()
    outcome = fuzz(READERS[name], count, seed=1)
    kinds = [outcome.counts[kind] for kind in (REFUSED, VALID, ELSE)]
    cells = [count, *kinds, round(time.process_time() - begun)]
    print(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} |", flush=True)
    failed = failed or bool(outcome.examples)
    print(*outcome.examples, sep="\n", end="", file=sys.stderr, flush=True)
sys.exit(failed)
