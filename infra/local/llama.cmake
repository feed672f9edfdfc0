# llama-cpp-python also builds what llama.cpp's own commands share, 48 of 112 files. Nothing that it imports needs that.
# A variable hides the cache's entry that it forces (CMake's policy CMP0126).
set(LLAMA_BUILD_COMMON OFF)
