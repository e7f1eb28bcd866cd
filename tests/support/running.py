"""How tests run stages: by the commands that users type, or in this process, without its start."""

import hashlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAINING_STAGES = ("prm", "sharpmask", "community", "mask_rcnn")
WORKERS = {"WISE_WORKERS": "2"}


def run_here(folder, stage, **environment):
    """Run a stage in this process, which has imported already what takes seconds to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {**WORKERS, **environment}.items():
            patch.setenv(name, value)
        importlib.import_module(f"stages.{stage}").main()


def script(stage):
    """The command of dvc.yaml."""
    return sys.executable, "-m", f"stages.{stage}"


def torchrun(stage, processes, *options):
    """The same stage by several processes."""
    launcher = ("--standalone", f"--nproc-per-node={processes}", *options)
    return sys.executable, "-m", "torch.distributed.run", *launcher, "-m", f"stages.{stage}"


def run(folder, *command, workers=2, check=True):
    """Run a command in a checkout, as a user would, with this environment's programs."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
        "WISE_WORKERS": str(workers),
        "WISE_DEVICE": "cpu",
        "DVC_NO_ANALYTICS": "1",
        "DVC_STUDIO_OFFLINE": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def start(folder, *command, preexec_fn=None, **environment):
    """Start a command in a session of its own, so that its workers can be killed with it."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **WORKERS, "PYTHONPATH": "", **environment},
        start_new_session=True,
        preexec_fn=preexec_fn,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition, process):
    """Wait for a condition that a process brings about, as long as it runs."""
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def waiting(folder, name):
    """How many training images of a stage are safe in its scratch folder."""
    return len(list((folder / ".scratch" / name).rglob("train.images/*.safetensors")))


def kill_soon(process, within=0.1):
    """End a process and its workers, at a random moment of the next seconds."""
    time.sleep(random.uniform(0, within))
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def shelf(folder, *stages):
    """Digests of all files that stages have left."""
    files = [path for stage in stages for path in sorted((folder / "data" / stage).rglob("*"))]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file() and path.name != ".gitignore"
    }


def copy_without(project, folder, *stages):
    """Copy a project, without what some of its stages have left."""
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("data", ".scratch"))
    shutil.copytree(project / "data", folder / "data", ignore=shutil.ignore_patterns(*stages))
    return folder
