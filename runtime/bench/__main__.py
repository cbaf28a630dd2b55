# SPDX-License-Identifier: Apache-2.0
"""``python -m zoo.runtime.bench --worker JSON``: one worker process, started by the driver."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from zoo.runtime.bench.worker import main

    sys.exit(main(sys.argv[1:]))
