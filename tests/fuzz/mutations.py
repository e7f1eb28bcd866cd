"""Mutations of a file: of its bytes, and of the words and numbers in it."""

import random
import re

WORD = re.compile(rb"[\w.+-]+")
WORDS = (
    *(b"-1", b"0", b"1e999", b"-0.5", b"NaN", b"null", b"true", b"~", b"''", b'""', b'"x"'),
    *(b"[]", b"{}", b"[[[]]]", b"a: b", b"../../etc/passwd", b"/etc/passwd", b"a\nb", b"\\ud800"),
    *(b"9" * 30, b"9" * 5000, b"9223372036854775808", b"60000", b"2021-02-30", b"!!float y"),
    *(b"*a", b"&a", b"<<", b"&b;", b"=1+1", b"<script>", b"|", b",", b";", b"\t", b"\0", b"\xff"),
    *(b"[" * 3000, b'{"a":' * 3000, b"x" * 140_000, "é猫\u2028\x85".encode()),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Apply one to three random mutations to the content of a file."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(MUTATIONS)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content) + 1)


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = _place(content, rng)
    return start, min(len(content), start + rng.choice((1, 2, 8, 100)))


def flip(content: bytes, rng: random.Random) -> bytes:
    """Change a bit."""
    if not content:
        return content
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Remove the end."""
    return content[: _place(content, rng)]


def drop(content: bytes, rng: random.Random) -> bytes:
    """Remove a part."""
    start, stop = _span(content, rng)
    return content[:start] + content[stop:]


def repeat(content: bytes, rng: random.Random) -> bytes:
    """Write a part twice."""
    start, stop = _span(content, rng)
    return content[:stop] + content[start:]


def insert(content: bytes, rng: random.Random) -> bytes:
    """Insert random bytes."""
    place = _place(content, rng)
    return content[:place] + rng.randbytes(rng.choice((1, 4, 40))) + content[place:]


def replace(content: bytes, rng: random.Random) -> bytes:
    """Replace a word or a number by one that is not meant."""
    words = list(WORD.finditer(content))
    if not words:
        return content + rng.choice(WORDS)
    word = rng.choice(words)
    return content[: word.start()] + rng.choice(WORDS) + content[word.end() :]


def line(content: bytes, rng: random.Random) -> bytes:
    """Write a line of the file once more, somewhere else."""
    lines = content.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"\n".join(lines)


# Words are the likeliest mistakes of people, so they come up most.
MUTATIONS = (flip, cut, drop, repeat, insert, line, replace, replace, replace)
