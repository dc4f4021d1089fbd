# Silvermont, the Atom in Pepper's head: SSE4.2, no AVX. Whoever calls may align the stack to 4 bytes.
set(MACHINE i686)
set(FLAGS "-target x86-linux-gnu.2.17 -mcpu=silvermont -mstackrealign -D_FILE_OFFSET_BITS=64")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
