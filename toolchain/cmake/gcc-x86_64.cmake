# From SSE2 on: instruction sets are ggml's choice at load time. libstdc++ is the system's: a copy of
# gcc 12's would ask for glibc 2.36 (arc4random), and so shut out Ubuntu 22.04.
set(MACHINE x86_64)
include(${CMAKE_CURRENT_LIST_DIR}/gcc.cmake)
