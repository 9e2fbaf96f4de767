"""Agents that lie: Python code that is added to the agent's protocol in the guest.

Each defines `change(reply, line)`, which returns the bytes that are sent in place of `line`. `reply` is the
message of `agent.selftest.protocol`. `TIMES` is how often the agent lies.
"""

from __future__ import annotations

FILE = "/opt/fim/agent/selftest/protocol.py"

_FRAME = """

_honest = encode
_lies_left = {times}


def _as(reply, **values):
    return _honest(reply._replace(**values))


{body}

def encode(message):
    global _lies_left
    line = _honest(message)
    if type(message).__name__ != {about!r} or not _lies_left:
        return line
    _lies_left -= 1
    return change(message, line)
"""

LIES: dict[str, tuple[str, str]] = {
    "passes what does not hold": (
        "Ran", "return _as(r, assertions=({'name': 'a', 'ok': False},), verdict='PASS')"),
    "passes and asserts nothing": ("Ran", "return _as(r, assertions=(), verdict='PASS')"),
    "has a ledger that does not close": (
        "Ran", "k = next(iter(r.ledger)); row = {**r.ledger[k]}; "
        "row['generated'] = row.get('generated', 0) + 1; return _as(r, ledger={**r.ledger, k: row})"),
    "has lost events that it delivered": (
        "Ran", "k = next(iter(r.ledger)); row = {**r.ledger[k]}; lost = {**row['lost']}; "
        "lost['ring_full'] = lost.get('ring_full', 0) + 3; row['lost'] = lost; "
        "return _as(r, ledger={**r.ledger, k: row})"),
    "has a ledger below zero": ("Ran", "return _as(r, ledger={'open': {'generated': -1, 'delivered': -1}})"),
    "answers for another test": ("Ran", "return _as(r, name='truth.exec')"),
    "answers another question": ("Ran", "return _as(r, id=r.id + 7)"),
    "shows no kernel log": ("Ran", "return _as(r, log=())"),
    "shows half a kernel log": ("Ran", "return _as(r, log=r.log[:1])"),
    "prints before it answers": ("Ran", "return b'hello\\n' + line"),
    "answers twice": ("Ran", "return line + line"),
    "answers by half": ("Ran", "return line[: len(line) // 2] + b'\\n'"),
    "answers without end": ("Ran", "return b'x' * (9 << 20)"),
    "invents a verdict": ("Ran", "return line.replace(b'\"PASS\"', b'\"GREAT\"')"),
    "skips without a reason": ("Ran", "return _as(r, verdict='SKIP', reason='', assertions=())"),
    "ends in place of an answer": ("Ran", "import os; os._exit(0)"),
    "ends while it loads": ("Loaded", "import os; os._exit(0)"),
    "refuses to load": ("Loaded", "return _honest(Refused(r.id, 'no'))"),
    "answers the load by half": ("Loaded", "return line[: len(line) // 2] + b'\\n'"),
    "ends and does not say so": ("Bye", "import os; os._exit(0)"),
    "says goodbye and ends badly": ("Bye", "import atexit, os; atexit.register(os._exit, 3); return line"),
}  # fmt: skip


def source(lie: str, times: int) -> str:
    """Return the code for an agent that lies `times` times."""
    about, body = LIES[lie]
    function = f"def change(r, line):\n    {body.replace('; ', chr(10) + '    ')}\n"
    return _FRAME.format(times=times, body=function, about=about)
