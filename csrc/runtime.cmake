# SPDX-License-Identifier: Apache-2.0
# libzoo: the device runtime. JSON, zip and inflate are Debian's nlohmann-json3-dev, libminizip-dev and zlib1g-dev; the last two are
# linked in, so that a device needs nothing but libzoo and its engine. Engines are loaded at run time: only their headers are needed here.
find_package(nlohmann_json 3.9 REQUIRED)
find_path(ZOO_MINIZIP_INCLUDE_DIR minizip/unzip.h REQUIRED)
find_library(ZOO_MINIZIP_LIBRARY NAMES libminizip.a minizip REQUIRED)
find_library(ZOO_ZLIB_LIBRARY NAMES libz.a z REQUIRED)

# the manifest's one schema, as a string in the library, without what only people read
set(ZOO_SCHEMA ${CMAKE_CURRENT_SOURCE_DIR}/zoo/manifest.schema.json)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${ZOO_SCHEMA})
file(READ ${ZOO_SCHEMA} ZOO_SCHEMA_TEXT)
string(REGEX REPLACE "\n *\"(title|description)\": \"([^\"\\\\]|\\\\.)*\"," "" ZOO_SCHEMA_TEXT "${ZOO_SCHEMA_TEXT}")
string(REGEX REPLACE "\n *" "" ZOO_SCHEMA_TEXT "${ZOO_SCHEMA_TEXT}")
configure_file(csrc/bundle/schema.cc.in ${CMAKE_CURRENT_BINARY_DIR}/schema.cc @ONLY)

file(GLOB ZOO_RUNTIME_SOURCES CONFIGURE_DEPENDS csrc/bundle/*.cc csrc/runtime/engine.cc csrc/runtime/library.cc csrc/runtime/onnxruntime.cc csrc/runtime/model.cc csrc/runtime/film.cc csrc/runtime/tracks.cc csrc/runtime/stream_input.cc)
add_library(zoo_runtime STATIC ${ZOO_RUNTIME_SOURCES} ${CMAKE_CURRENT_BINARY_DIR}/schema.cc)
target_include_directories(zoo_runtime PRIVATE csrc SYSTEM PRIVATE ${ZOO_MINIZIP_INCLUDE_DIR})
target_compile_options(zoo_runtime PRIVATE ${ZOO_WARNINGS})
target_link_libraries(zoo_runtime PUBLIC zoo_core nlohmann_json::nlohmann_json PRIVATE ${ZOO_MINIZIP_LIBRARY} ${ZOO_ZLIB_LIBRARY} ${CMAKE_DL_LIBS})

set(ZOO_ONNXRUNTIME_FOLDER "" CACHE PATH "Folder of libonnxruntime.so, for the tests; none is needed to build")

# --- engines -----------------------------------------------------------------------------------------------------
find_package(OpenVINO QUIET COMPONENTS Runtime)
if(OpenVINO_FOUND)
  target_sources(zoo_runtime PRIVATE csrc/runtime/openvino.cc)
  get_target_property(ZOO_OPENVINO_INCLUDE openvino::runtime::c INTERFACE_INCLUDE_DIRECTORIES)
  get_target_property(ZOO_OPENVINO_FILE openvino::runtime::c IMPORTED_LOCATION_RELEASE)
  get_filename_component(ZOO_OPENVINO_SONAME "${ZOO_OPENVINO_FILE}" NAME)
  target_include_directories(zoo_runtime SYSTEM PRIVATE ${ZOO_OPENVINO_INCLUDE})
  target_compile_definitions(zoo_runtime PRIVATE ZOO_HAVE_OPENVINO=1)
  set_source_files_properties(csrc/runtime/openvino.cc PROPERTIES COMPILE_DEFINITIONS
                              "ZOO_OPENVINO_SONAME=\"${ZOO_OPENVINO_SONAME}\";ZOO_OPENVINO_VERSION=\"${OpenVINO_VERSION}\"")
endif()
message(STATUS "libzoo: OpenVINO ${OpenVINO_VERSION} ${OpenVINO_DIR}")

# --- the library -------------------------------------------------------------------------------------------------
add_library(zoo SHARED csrc/c_api/zoo.cc)
target_include_directories(zoo PRIVATE csrc INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/csrc/include> $<INSTALL_INTERFACE:include>)
target_compile_definitions(zoo PRIVATE ZOO_BUILDING=1)
target_compile_options(zoo PRIVATE ${ZOO_WARNINGS})
target_link_libraries(zoo PRIVATE zoo_runtime)
target_link_options(zoo PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/csrc/c_api/zoo.map -Wl,--gc-sections)
# the file's version is the interface's (ZOO_ABI_VERSION), the package's that of the project
set_target_properties(zoo PROPERTIES SOVERSION 1 LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/csrc/c_api/zoo.map)

enable_language(C)
add_executable(classify_wav examples/classify_wav.c)
set_target_properties(classify_wav PROPERTIES C_STANDARD 90 C_EXTENSIONS OFF)
target_compile_options(classify_wav PRIVATE ${ZOO_WARNINGS} -pedantic)
target_link_libraries(classify_wav PRIVATE zoo)
foreach(example live_speech camera_faces eeg_stream)
  add_executable(${example} examples/${example}.cc)
  target_compile_options(${example} PRIVATE ${ZOO_WARNINGS})
  target_link_libraries(${example} PRIVATE zoo)
endforeach()

# --- installation: find_package(zoo), pkg-config, cpack ----------------------------------------------------------
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # packages hold libzoo alone, so the tests need not be built for them
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
file(STRINGS pyproject.toml ZOO_VERSION REGEX "^version = ")
string(REGEX REPLACE "^version = \"(.*)\"$" "\\1" ZOO_VERSION "${ZOO_VERSION}")
install(TARGETS zoo EXPORT zooTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES csrc/include/zoo/zoo.h csrc/include/zoo/zoo.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/zoo)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES csrc/third_party/miniaudio/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME LICENSE.miniaudio)
install(FILES csrc/third_party/ekphrasis/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME LICENSE.ekphrasis)
install(EXPORT zooTargets NAMESPACE zoo:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/zoo)
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/zooConfig.cmake "include(\"\${CMAKE_CURRENT_LIST_DIR}/zooTargets.cmake\")\n")
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/zooConfigVersion.cmake VERSION ${ZOO_VERSION} COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/zooConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/zooConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/zoo)
file(RELATIVE_PATH ZOO_PC_INCLUDE /at/${CMAKE_INSTALL_LIBDIR}/pkgconfig /at/${CMAKE_INSTALL_INCLUDEDIR})
configure_file(csrc/c_api/zoo.pc.in ${CMAKE_CURRENT_BINARY_DIR}/zoo.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/zoo.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(CPACK_PACKAGE_NAME libzoo)
set(CPACK_PACKAGE_VERSION ${ZOO_VERSION})
set(CPACK_PACKAGE_CONTACT "affect-zoo")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Runs affect-zoo bundles: from raw input to label, without Python")
set(CPACK_GENERATOR TGZ DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6, libstdc++6")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
