# zig cc for one machine, found on the PATH (toolchain/zig.py puts it there). MACHINE and FLAGS are
# set by who includes this. libc++ is linked in; nothing is needed but glibc of the version in FLAGS.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)
set(CMAKE_SYSTEM_PROCESSOR ${MACHINE})
set(CMAKE_C_COMPILER zig-cc)
set(CMAKE_CXX_COMPILER zig-c++)
foreach(language C CXX)
  set(CMAKE_${language}_FLAGS_INIT "${FLAGS}")
endforeach()
foreach(kind SHARED MODULE)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT "-s")
endforeach()
