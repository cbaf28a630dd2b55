#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the golden clips of this folder with espeak-ng 1.51 and sox: synthetic speech, no person's voice.
# They cover: longer than the window, shorter than it, another rate, stereo, and silence at the end.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
say() { espeak-ng -v "$1" -p "$2" -s "$3" -a "$4" -w "$work/out.wav" "$5"; }
say de 40 140 90 "Der Lappen liegt auf dem Eisschrank."
sox -D "$work/out.wav" -b 16 calm_22050.flac
say de+f3 90 210 120 "Das will sie am Mittwoch abgeben!"
sox -D "$work/out.wav" -r 16000 -b 16 excited_16000.flac trim 0 1.5
say de+m3 10 100 60 "Heute."
sox -D "$work/out.wav" -r 44100 -c 2 -b 16 short_44100_stereo.flac trim 0 0.7 pad 0 0.1
say en+f2 60 170 120 "I can not believe it, what a day!"
sox -D "$work/out.wav" -r 48000 -b 16 english_48000.wav trim 0 1.2
