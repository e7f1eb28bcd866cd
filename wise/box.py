"""Write a weights file that comes with this software: `python -m wise.box WEIGHTS weights/NAME`.

Example: python -m wise.box data/sharpmask/weights.safetensors weights/sharpmask.safetensors
"""

import sys
from pathlib import Path

from pipeline.artifacts.compact import write_compact

if __name__ == "__main__":
    write_compact(Path(sys.argv[1]), Path(sys.argv[2]))
