#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes sure that a compiler, Python's headers and venv are here: installs them when run as root on
# Debian or Ubuntu, else names the one command that does. Everything else comes from pip.
# Usage: .ci/system_packages.sh PYTHON [EXTRA_PACKAGE ...]
set -eu
python=$1
shift
missing=""
command -v g++ >/dev/null 2>&1 || missing="$missing g++"
if command -v "$python" >/dev/null 2>&1; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "$python is older than 3.10; name a newer one: make PYTHON=python3.11 ..." >&2
        exit 1
    }
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
        || missing="$missing python3-dev"
else
    missing="$missing python3 python3-venv python3-dev"
fi
for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "System packages are missing. Install them with: sudo apt-get install$missing" >&2
    exit 1
fi
