#!/usr/bin/env bash
# What a GPU gives: from a bare machine with Python 3.11 or newer to a page of tables, within ten
# minutes. `python -m benchmarks.section` then puts the page into docs/performance.md.
#
# usage: benchmarks/gpu.sh [--tiny]
# --tiny tries the script itself: one file of tests, and one benchmark.
# WISE_DEVICE=cpu measures without a GPU; PYTHON=... uses an environment that is there already.
set -uo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
LIMIT=580 # seconds, the environment included
TESTS=(tests/backbones tests/classifier tests/community tests/detectors tests/proposals)
NAMES=(peaks proposals refinement sampling training) # `scaling` uses no GPU, and takes longer
[ "${1:-}" = --tiny ] && TESTS=(tests/common/test_masks.py) && NAMES=(sampling)

PYTHON=${PYTHON:-.venv/bin/python}
if ! command -v "$PYTHON" > /dev/null; then
    # A torch that is installed already is used, if it is recent enough.
    python3 -m venv --system-site-packages .venv &&
        timeout $LIMIT .venv/bin/python -m pip install --quiet --editable '.[dev,sam]' || exit 1
fi

export WISE_DEVICE=${WISE_DEVICE:-cuda}
mkdir -p .scratch/gpu
LOG=.scratch/gpu/log.txt

# A heading, and what a command prints within the seconds that are left.
measure() {
    printf '\n### %s\n\n' "$1"
    timeout -k 5 $((LIMIT > SECONDS ? LIMIT - SECONDS : 1)) "${@:2}" 2>> $LOG ||
        printf '\nIt ended with status %s; see the log.\n' $?
}

# The last line of the tests.
tests() {
    timeout -k 5 200 "$PYTHON" -m pytest -q -n 4 -p no:cacheprovider "$@" 2>&1 | tee -a $LOG | tail -n 1
}

: > $LOG
{
    printf '\n### Tests on the device\n\n'
    tests "${TESTS[@]}" || printf '\nThey ended with status %s; see the log.\n' $?
    measure Benchmarks "$PYTHON" -m benchmarks "${NAMES[@]}"
    if [ "${1:-}" != --tiny ]; then
        measure "Trainings of the paper's setting" "$PYTHON" -m benchmarks.paper
    fi
    printf '\n`benchmarks/gpu.sh`: %s s.\n' $SECONDS
} | tee .scratch/gpu/page.md
