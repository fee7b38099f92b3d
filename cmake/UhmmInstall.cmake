# SPDX-License-Identifier: LGPL-2.1-or-later
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/uhmm)

install(DIRECTORY include/uhmm TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(TARGETS uhmm_shared EXPORT uhmmTargets)
install(TARGETS uhmm_static uhmm_checked EXPORT uhmmStaticTargets)
install(EXPORT uhmmTargets NAMESPACE uhmm:: DESTINATION ${config_dir})
install(EXPORT uhmmStaticTargets NAMESPACE uhmm:: DESTINATION ${config_dir})
if(TARGET uhmm)
	install(TARGETS uhmm uhmm-checked)
endif()

file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.1)
if(pages)
	install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

install(DIRECTORY data/costs DESTINATION ${CMAKE_INSTALL_DATADIR}/uhmm
	FILES_MATCHING PATTERN "*.costs")

# CMake package: the modules that the static forms need, as PREFIX=package.
set(UHMM_CONFIG_MODULES UHMM_URCU=liburcu-memb UHMM_ZSTD=libzstd)
if(NOT UHMM_LIBC_MALLOC)
	list(APPEND UHMM_CONFIG_MODULES UHMM_JEMALLOC=jemalloc)
endif()
list(JOIN UHMM_CONFIG_MODULES " " UHMM_CONFIG_MODULES)
configure_package_config_file(cmake/uhmmConfig.cmake.in uhmmConfig.cmake
	INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(uhmmConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/uhmmConfig.cmake ${PROJECT_BINARY_DIR}/uhmmConfigVersion.cmake
	DESTINATION ${config_dir})

# pkg-config. The prefix is found from the file's own place, so that a tree that
# was installed elsewhere (cmake --install --prefix, DESTDIR) is right as well.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
	set(UHMM_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
	set(UHMM_PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
	set(UHMM_PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
	file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
	string(REGEX REPLACE "/$" "" up ${up})
	set(UHMM_PC_PREFIX "\${pcfiledir}/${up}")
	set(UHMM_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
	set(UHMM_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
list(JOIN UHMM_REQUIRES " " UHMM_PC_REQUIRES)
foreach(package uhmm uhmm-checked)
	configure_file(cmake/${package}.pc.in ${package}.pc @ONLY)
	install(FILES ${PROJECT_BINARY_DIR}/${package}.pc
		DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
