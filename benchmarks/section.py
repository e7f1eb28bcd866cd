"""Put what benchmarks/gpu.sh measured into docs/performance.md: `python -m benchmarks.section`."""

from benchmarks.table import ROOT

PAGE = ROOT / "docs" / "performance.md"
MEASURED = ROOT / ".scratch" / "gpu" / "page.md"
BEGIN, END = "<!-- benchmarks/gpu.sh -->\n", "<!-- end of benchmarks/gpu.sh -->\n"


def replaced(page: str, measured: str) -> str:
    """Return a page with `measured` in place of what is between `BEGIN` and `END`."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"no line {BEGIN}"
    assert end, f"no line {END}"
    return f"{before}{begin}{measured.strip()}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(), MEASURED.read_text()))
