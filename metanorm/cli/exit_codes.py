"""How the command ends."""

from __future__ import annotations

OK = 0  # done, nothing found (warnings alone are nothing)
FINDINGS = 1  # errors in specs, unformatted files, drift, a verification that failed
USAGE = 2  # the command line or the configuration is wrong
INTERNAL = 3  # a bug in metanorm
INTERRUPTED = 130
