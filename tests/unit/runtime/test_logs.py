"""The worker's log: an expected failure is one line, an unexpected one keeps its traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import logging
from temporalio.exceptions import ApplicationError
from assent.runtime.logs import configure_logs

configure_logs()
try:
    raise {error}
except Exception:
    logging.getLogger("temporalio.activity").warning("Completing activity as failed ({{'a': 1}})", exc_info=True)
"""


@pytest.mark.parametrize(
    ("error", "traced"), [("ApplicationError('bad key', type='AuthenticationFailed')", False), ("KeyError('x')", True)]
)
def test_an_expected_failure_is_logged_without_a_traceback(error: str, *, traced: bool) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(error=error)], capture_output=True, text=True, check=True)
    assert ("Traceback" in done.stderr) is traced
    assert error.split("'")[1] in done.stderr
    assert done.stderr.count("\n") == 1
