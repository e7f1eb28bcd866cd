"""The tests on a pretend GPU, in a process of their own."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT


@pytest.mark.timeout(3000)
def test_on_a_pretend_gpu():
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/device"],
        cwd=ROOT,
        env={**environment, "PRETEND_GPU": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
