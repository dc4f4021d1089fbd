# gcc 12 knows no SME, so ggml's variants do not all compile: one build for Cortex-A76 and later.
set(MACHINE aarch64)
set(LINK "-static-libstdc++ -static-libgcc")
include(${CMAKE_CURRENT_LIST_DIR}/gcc.cmake)
