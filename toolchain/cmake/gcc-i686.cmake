# Silvermont, the Atom in Pepper's head: SSE4.2, no AVX. Whoever calls may align the stack to 4 bytes.
set(MACHINE i686)
set(FLAGS "-march=silvermont -mfpmath=sse -mstackrealign -D_FILE_OFFSET_BITS=64")
set(LINK "-static-libstdc++ -static-libgcc")
include(${CMAKE_CURRENT_LIST_DIR}/gcc.cmake)
