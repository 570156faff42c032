# Installs what a C++ program needs: libforerun, the public headers, find_package(forerun) and pkg-config.
# Component `cpp`; the wheel takes component `python` (csrc/bindings).
include(CMakePackageConfigHelpers)

# Inside the source tree a header is included as "engine/options.h" from csrc/; installed it is <forerun/options.h>.
# The include lines are rewritten so that users need one include folder and nothing of ours shadows theirs.
set(FORERUN_PUBLIC_HEADERS engine/engine.h engine/session.h engine/request.h engine/options.h engine/stats.h base/error.h
    base/logprobs.h base/method.h base/sampling.h base/trace.h)
foreach(header ${FORERUN_PUBLIC_HEADERS})
  set(source ${PROJECT_SOURCE_DIR}/csrc/${header})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  file(READ ${source} text)
  string(REGEX REPLACE "#include \"engine/([a-z_]+\\.h)\"" "#include \"forerun/\\1\"" text "${text}")
  string(REGEX REPLACE "#include \"base/([a-z_]+\\.h)\"" "#include \"forerun/base/\\1\"" text "${text}")
  string(REPLACE "engine/" "" target ${header})
  set(installed ${PROJECT_BINARY_DIR}/include/forerun/${target})
  file(CONFIGURE OUTPUT ${installed} CONTENT "${text}" @ONLY)
  get_filename_component(folder forerun/${target} DIRECTORY)
  install(FILES ${installed} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/${folder} COMPONENT cpp)
endforeach()

install(
  TARGETS forerun
  EXPORT forerun-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET forerun_cuda)
  install(TARGETS forerun_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp)
endif()

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/forerun)
install(EXPORT forerun-targets NAMESPACE forerun:: DESTINATION ${config_folder} COMPONENT cpp)
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/forerun-config.cmake.in ${PROJECT_BINARY_DIR}/forerun-config.cmake
  INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/forerun-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/forerun-config.cmake ${PROJECT_BINARY_DIR}/forerun-config-version.cmake
  DESTINATION ${config_folder} COMPONENT cpp)

# lib or lib/x86_64-linux-gnu: the .pc file finds its prefix from where it lies, so the tree can be moved.
file(RELATIVE_PATH FORERUN_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" FORERUN_PC_TO_PREFIX "${FORERUN_PC_TO_PREFIX}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/forerun.pc.in ${PROJECT_BINARY_DIR}/forerun.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/forerun.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT cpp)
