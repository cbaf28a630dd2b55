#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches what a build for 64-bit Arm links and runs with, into FOLDER: Debian's zlib and minizip of that architecture, and OpenVINO's
# wheel in the version that PYTHON has. The system's own packages stay as they are: apt keeps its lists for arm64 in FOLDER too.
# Usage: .ci/arm64.sh PYTHON FOLDER
set -eu
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
apt="$folder/apt"
if [ ! -f "$folder/usr/lib/aarch64-linux-gnu/libminizip.a" ]; then
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    touch "$apt/status"
    for command in update "download libminizip-dev:arm64 zlib1g-dev:arm64"; do
        # shellcheck disable=SC2086
        (cd "$apt" && apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root \
            -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" $command)
    done
    for package in "$apt"/*.deb; do dpkg-deb -x "$package" "$folder"; done
fi
[ ! -d "$folder/wheels/openvino" ] || exit 0
release=$("$python" -c "import sys; print('%d.%d' % sys.version_info[:2])")
version=$("$python" -c "import importlib.metadata as m; print(m.version('openvino'))")
platforms=""
for glibc in 2_17 2_26 2_27 2_28 2_31 2_34 2_35; do platforms="$platforms --platform manylinux_${glibc}_aarch64"; done
# shellcheck disable=SC2086
"$python" -m pip install -q --upgrade --target "$folder/wheels" --no-deps --only-binary=:all: --python-version "$release" $platforms "openvino==$version"
