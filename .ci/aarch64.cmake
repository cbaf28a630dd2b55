# SPDX-License-Identifier: Apache-2.0
# Cross-compiles for 64-bit Arm with Debian's g++-aarch64-linux-gnu; tests run under qemu-user. ZOO_SYSROOT: see arm64.sh.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# a core of the kind that Jetson Orin and Raspberry Pi 5 have
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu cortex-a76 -L /usr/aarch64-linux-gnu)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZOO_SYSROOT)
set(ZOO_MINIZIP_INCLUDE_DIR ${ZOO_SYSROOT}/usr/include CACHE PATH "")
set(ZOO_MINIZIP_LIBRARY ${ZOO_SYSROOT}/usr/lib/aarch64-linux-gnu/libminizip.a CACHE FILEPATH "")
set(ZOO_ZLIB_LIBRARY ${ZOO_SYSROOT}/usr/lib/aarch64-linux-gnu/libz.a CACHE FILEPATH "")
