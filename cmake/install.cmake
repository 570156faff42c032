# Installs what a C++ program needs: libforerun, the public headers, find_package(forerun) and pkg-config.
# The wheel takes component `python` instead (csrc/bindings).
include(CMakePackageConfigHelpers)

# Public headers include each other relative to include/forerun/, so users need one include folder.
install(
  FILES csrc/engine/engine.h csrc/engine/options.h csrc/engine/session.h csrc/engine/stats.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/forerun
  COMPONENT cpp)
install(
  FILES csrc/base/error.h csrc/base/sampling.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/forerun/base
  COMPONENT cpp)

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
write_basic_package_version_file(${PROJECT_BINARY_DIR}/forerun-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/forerun-config.cmake ${PROJECT_BINARY_DIR}/forerun-config-version.cmake
  DESTINATION ${config_folder}
  COMPONENT cpp)

# lib or lib/x86_64-linux-gnu: the .pc file finds its prefix from where it lies, so the tree can be moved.
file(RELATIVE_PATH FORERUN_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" FORERUN_PC_TO_PREFIX "${FORERUN_PC_TO_PREFIX}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/forerun.pc.in ${PROJECT_BINARY_DIR}/forerun.pc @ONLY)
install(
  FILES ${PROJECT_BINARY_DIR}/forerun.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT cpp)
