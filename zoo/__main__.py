# SPDX-License-Identifier: Apache-2.0
"""``python -m zoo``."""

from zoo.cli import main

if __name__ == "__main__":
    main()
