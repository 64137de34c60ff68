# What `cmake --install` gives a host: library, header, find_package(shortlist) and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The soname changes when an old host would break; additions to the C ABI keep it.
set_target_properties(shortlist PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 1)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/shortlist)
install(TARGETS shortlist EXPORT shortlist LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${c_headers}/shortlist.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${c_headers}/engine.h ${c_headers}/sessions.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/shortlist)
install(EXPORT shortlist NAMESPACE shortlist:: FILE shortlistConfig.cmake DESTINATION ${package_dir})
write_basic_package_version_file(shortlistConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/shortlistConfigVersion.cmake DESTINATION ${package_dir})

# Relative to the .pc file, so that an installed tree may be moved.
file(RELATIVE_PATH prefix_from_pc
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cpp_ext/shortlist.pc.in shortlist.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/shortlist.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
