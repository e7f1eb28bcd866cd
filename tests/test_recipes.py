"""The recipes of docs/scaling.md for clusters, as far as they can be checked without one."""

import re
import shlex
import subprocess

import pytest
import yaml
from torch.distributed.run import get_args_parser

from tests.support import ROOT

BLOCKS = re.findall(
    r"^```(\w*)\n(.*?)^```$", (ROOT / "docs/scaling.md").read_text(), re.MULTILINE | re.DOTALL
)

# Without it, processes that are started again find the addresses of those before.
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def blocks(language, word):
    """The blocks in a language that have a word."""
    found = [text for name, text in BLOCKS if name == language and word in text]
    assert found
    return found


def trains(arguments):
    """Whether torchrun knows its options, and starts a stage that exists."""
    options = get_args_parser().parse_args(arguments)
    assert options.module
    assert options.max_restarts > 0
    assert (ROOT / f"{options.training_script.replace('.', '/')}.py").is_file()
    return options


@pytest.mark.parametrize("text", blocks("", "#!/bin/bash"))
def test_batch_files(text):
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    directives = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    asked = dict(one.removeprefix("--").split("=") for line in directives for one in line.split())
    command = shlex.split(text.partition("torchrun ")[2].replace("\\\n", " "))
    options = trains(command)
    assert str(options.nproc_per_node) == asked["gpus-per-node"]
    assert asked["ntasks-per-node"] == "1"
    assert f"\nexport {OWN_STORE}=1\n" in text


@pytest.mark.parametrize("text", blocks("yaml", "kind: Job"))
def test_jobs_of_kubernetes(text):
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program, *arguments = container["command"]
    options = trains(arguments)
    assert program == "torchrun"
    assert container["env"] == [{"name": OWN_STORE, "value": "1"}]
    assert int(options.nnodes) == spec["completions"] == spec["parallelism"]
    assert options.nproc_per_node == str(container["resources"]["limits"]["nvidia.com/gpu"])
    # The first pod of an indexed job is named after it, and found below the service.
    name = job["metadata"]["name"]
    assert options.rdzv_endpoint.startswith(f"{name}-0.{pod['subdomain']}:")
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


@pytest.mark.parametrize("text", blocks("python", "Cluster"))
def test_programs_that_start_workers(text):
    compile(text, "docs/scaling.md", "exec")
