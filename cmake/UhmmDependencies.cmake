# SPDX-License-Identifier: LGPL-2.1-or-later
# What the library, the command and the tests stand on. The prefixes (UHMM_URCU
# and so on) are used again by uhmmConfig.cmake.in: keep the two alike.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

pkg_check_modules(UHMM_URCU REQUIRED IMPORTED_TARGET liburcu-memb>=0.13)
pkg_check_modules(UHMM_ZSTD REQUIRED IMPORTED_TARGET libzstd>=1.5)
set(UHMM_REQUIRES liburcu-memb libzstd)
set(UHMM_LIBS PkgConfig::UHMM_URCU PkgConfig::UHMM_ZSTD Threads::Threads m)

if(NOT UHMM_LIBC_MALLOC)
	pkg_check_modules(UHMM_JEMALLOC REQUIRED IMPORTED_TARGET jemalloc>=5.2)
	list(APPEND UHMM_REQUIRES jemalloc)
	list(APPEND UHMM_LIBS PkgConfig::UHMM_JEMALLOC)
endif()

# Headers alone: the checked library compares states by their hashes.
find_path(UHMM_XXHASH_INCLUDE xxhash.h REQUIRED)

if(UHMM_TOOLS)
	pkg_check_modules(UHMM_DW REQUIRED IMPORTED_TARGET libdw)
endif()

if(UHMM_TOOLS OR UHMM_TESTS)
	pkg_check_modules(UHMM_JANSSON REQUIRED IMPORTED_TARGET jansson>=2.13)
endif()

if(UHMM_TESTS AND BUILD_TESTING)
	pkg_check_modules(UHMM_CHECK REQUIRED IMPORTED_TARGET check>=0.15)
endif()
