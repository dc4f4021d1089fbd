# From ARMv8.0 on: instruction sets are ggml's choice at load time. onnxruntime's wheel has the same glibc.
set(MACHINE aarch64)
set(FLAGS "-target aarch64-linux-gnu.2.28")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
