#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The golden clips are TIM-Net's (its make.sh says how they are made): synthetic speech, no person's voice. They cover
# longer than the window, shorter than it, three other rates, stereo, and silence at the end.
set -eu
cd "$(dirname "$0")"
cp ../../tim_net/golden/*.flac ../../tim_net/golden/*.wav .
