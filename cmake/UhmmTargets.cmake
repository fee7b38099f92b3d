# SPDX-License-Identifier: LGPL-2.1-or-later
# How each kind of target is made. Files are globbed, so a new source file needs
# no edit here; a folder that is empty or absent adds nothing.

# For any x86-64 gcc clears more than 32 bytes by "rep stos", which takes as long as 100 instructions to
# begin: each small struct of a short path costs that. clang does better by itself.
include(CheckCCompilerFlag)
set(UHMM_CLEAR_BY_STORES -mmemset-strategy=vector_loop:256:noalign,libcall:-1:noalign)
check_c_compiler_flag(${UHMM_CLEAR_BY_STORES} UHMM_HAS_MEMSET_STRATEGY)

# Language and warnings, for everything that we compile.
function(uhmm_compile_options target)
	set_target_properties(${target} PROPERTIES
		C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS ON)
	target_compile_options(${target} PRIVATE
		-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
		$<$<C_COMPILER_ID:Clang>:-Wthread-safety>
		$<$<BOOL:${UHMM_HAS_MEMSET_STRATEGY}>:${UHMM_CLEAR_BY_STORES}>
		$<$<BOOL:${UHMM_WERROR}>:-Werror>)
	target_compile_definitions(${target} PRIVATE
		_GNU_SOURCE= # empty, so that a file may define it as well
		$<$<CONFIG:Debug>:UHMM_DEBUG=1>
		$<$<BOOL:${UHMM_LIBC_MALLOC}>:UHMM_LIBC_MALLOC=1>)
	if(UHMM_SANITIZE)
		target_compile_options(${target} PRIVATE -fsanitize=${UHMM_SANITIZE}
			-fno-sanitize-recover=all -fno-omit-frame-pointer)
		target_link_options(${target} PRIVATE -fsanitize=${UHMM_SANITIZE})
	endif()
endfunction()

# One set of objects: position independent, so that the shared and the static
# library share it. The initial-exec TLS model keeps "current task" at one
# instruction there; the linker turns it into local-exec in a program.
function(uhmm_add_objects target)
	add_library(${target} OBJECT ${ARGN})
	uhmm_compile_options(${target})
	set_target_properties(${target} PROPERTIES
		POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
	target_compile_options(${target} PRIVATE
		-fno-semantic-interposition -ftls-model=initial-exec)
	target_compile_definitions(${target} PRIVATE UHMM_VERSION_STRING="${PROJECT_VERSION}")
	target_include_directories(${target} PRIVATE
		${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
	target_link_libraries(${target} PRIVATE ${UHMM_LIBS})
endfunction()

# What every form of the library has in common. ARGN: the objects' target.
function(uhmm_finish_library target export_name objects)
	add_library(uhmm::${export_name} ALIAS ${target})
	target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
	set_target_properties(${target} PROPERTIES
		EXPORT_NAME ${export_name} LINKER_LANGUAGE C)
	target_include_directories(${target} PUBLIC
		$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
		$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
	target_link_libraries(${target} PRIVATE ${UHMM_LIBS})
	if(UHMM_SANITIZE)
		target_link_options(${target} PRIVATE -fsanitize=${UHMM_SANITIZE})
	endif()
endfunction()

# libuhmm.so, libuhmm.a and the checked, schedulable libuhmm-checked.a.
function(uhmm_add_libraries)
	set(sources)
	foreach(layer core sync pgtable mm devmem hmm migrate mirror replay explore)
		file(GLOB found CONFIGURE_DEPENDS
			${PROJECT_SOURCE_DIR}/src/${layer}/*.c
			${PROJECT_SOURCE_DIR}/src/${layer}/*.S)
		list(APPEND sources ${found})
	endforeach()
	if(NOT sources)
		message(FATAL_ERROR "no source files below ${PROJECT_SOURCE_DIR}/src")
	endif()
	if(sources MATCHES "\\.S(;|$)")
		enable_language(ASM)
	endif()

	uhmm_add_objects(uhmm_objects ${sources})
	uhmm_add_objects(uhmm_checked_objects ${sources})
	target_compile_definitions(uhmm_checked_objects PRIVATE UHMM_CHECKED=1)
	target_include_directories(uhmm_checked_objects SYSTEM PRIVATE ${UHMM_XXHASH_INCLUDE})

	set(map ${PROJECT_SOURCE_DIR}/cmake/uhmm.map)
	add_library(uhmm_shared SHARED)
	uhmm_finish_library(uhmm_shared uhmm uhmm_objects)
	set_target_properties(uhmm_shared PROPERTIES OUTPUT_NAME uhmm LINK_DEPENDS ${map}
		VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
	target_link_options(uhmm_shared PRIVATE
		LINKER:--version-script=${map} LINKER:--as-needed)
	if(NOT UHMM_SANITIZE) # a sanitizer leaves its run-time to the program
		target_link_options(uhmm_shared PRIVATE LINKER:-z,defs)
	endif()

	add_library(uhmm_static STATIC)
	uhmm_finish_library(uhmm_static uhmm-static uhmm_objects)
	set_target_properties(uhmm_static PROPERTIES OUTPUT_NAME uhmm)

	add_library(uhmm_checked STATIC)
	uhmm_finish_library(uhmm_checked uhmm-checked uhmm_checked_objects)
	set_target_properties(uhmm_checked PROPERTIES OUTPUT_NAME uhmm-checked)
	target_compile_definitions(uhmm_checked INTERFACE UHMM_CHECKED=1)
endfunction()

# The command, twice from the same sources: uhmm and uhmm-checked.
function(uhmm_add_command)
	file(GLOB sources CONFIGURE_DEPENDS
		${PROJECT_SOURCE_DIR}/tools/*.c ${PROJECT_SOURCE_DIR}/tools/scenarios/*.c)
	if(NOT sources)
		message(WARNING "no source files in tools/: the uhmm command is not built")
		return()
	endif()
	foreach(variant static checked)
		string(REPLACE -static "" name uhmm-${variant})
		add_executable(${name} ${sources})
		uhmm_compile_options(${name})
		target_compile_definitions(${name} PRIVATE
			UHMM_VERSION_STRING="${PROJECT_VERSION}")
		target_link_libraries(${name} PRIVATE uhmm_${variant} PkgConfig::UHMM_JANSSON
			PkgConfig::UHMM_DW)
		target_link_options(${name} PRIVATE LINKER:--as-needed)
	endforeach()
	# Scenarios in shared objects find the whole library in the command.
	set_target_properties(uhmm-checked PROPERTIES ENABLE_EXPORTS ON)
	target_sources(uhmm-checked PRIVATE $<TARGET_OBJECTS:uhmm_checked_objects>)
endfunction()

# Each .c file of a folder is a program that uses the public headers alone.
function(uhmm_add_programs folder)
	file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.c)
	foreach(source ${sources})
		cmake_path(GET source STEM LAST_ONLY stem)
		add_executable(${folder}_${stem} ${source})
		uhmm_compile_options(${folder}_${stem})
		target_link_libraries(${folder}_${stem} PRIVATE uhmm_static)
		set_target_properties(${folder}_${stem} PROPERTIES OUTPUT_NAME ${stem}
			RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/${folder})
	endforeach()
endfunction()

# Each .c file of examples/scenarios/ is a shared object for `uhmm explore --load`.
function(uhmm_add_scenarios)
	file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/scenarios/*.c)
	foreach(source ${sources})
		cmake_path(GET source STEM LAST_ONLY stem)
		add_library(scenario_${stem} MODULE ${source})
		uhmm_compile_options(scenario_${stem})
		target_include_directories(scenario_${stem} PRIVATE ${PROJECT_SOURCE_DIR}/include)
		set_target_properties(scenario_${stem} PROPERTIES PREFIX "" OUTPUT_NAME ${stem}
			LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples)
	endforeach()
endfunction()
