# What all toolchain files share; toolchain/compile.py chooses one of them by compiler and machine.
set(CMAKE_SYSTEM_NAME Linux)
# One file for each library, under the name that others link to: a wheel cannot hold links.
set(CMAKE_PLATFORM_NO_VERSIONED_SONAME ON)
# Libraries find each other beside themselves, wherever the wheel is unpacked, and nowhere else.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN")
