# liberne_cuda.so: nvcc for the kernels, g++ for the rest, cudart linked in. CMake's own CUDA language is not used: it wants
# an architecture for its compiler test that this toolkit no longer has.
find_program(ERNE_NVCC nvcc HINTS $ENV{CUDA_HOME} /usr/local/cuda PATH_SUFFIXES bin)
if(NOT ERNE_NVCC)
  message(FATAL_ERROR "ERNE_CUDA=ON needs nvcc (the CUDA 13 toolkit): put it on PATH or set CUDA_HOME")
endif()
get_filename_component(cuda_root ${ERNE_NVCC} REALPATH)
get_filename_component(cuda_root ${cuda_root} DIRECTORY)
get_filename_component(cuda_root ${cuda_root} DIRECTORY)
find_library(ERNE_CUDART cudart_static HINTS ${cuda_root} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib REQUIRED)
set(ERNE_CUDA_ARCHITECTURES "80;90a;100a" CACHE STRING "machine code in liberne_cuda.so; newer devices translate sm_80's")

set(nvcc_flags -std=c++20 -O3 -DNDEBUG --expt-relaxed-constexpr -fmad=false)
foreach(arch IN LISTS ERNE_CUDA_ARCHITECTURES)
  list(APPEND nvcc_flags -gencode arch=compute_${arch},code=sm_${arch})
endforeach()
list(GET ERNE_CUDA_ARCHITECTURES 0 oldest)
list(APPEND nvcc_flags -gencode arch=compute_${oldest},code=compute_${oldest})

# What ptxas says and the PTX stay beside the objects: tools/gpu_resources.py reads them.
set(objects)
foreach(kernel IN LISTS gpu_kernels)
  get_filename_component(name ${kernel} NAME_WE)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda_${name}.o)
  set(keep ${CMAKE_CURRENT_BINARY_DIR}/cuda_${name}.keep)
  file(MAKE_DIRECTORY ${keep})
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${PROJECT_SOURCE_DIR}/tools/run_logged.sh ${CMAKE_CURRENT_BINARY_DIR}/cuda_${name}.log
            ${ERNE_NVCC} ${nvcc_flags} -Xptxas -v -keep -keep-dir ${keep} -Xcompiler -fPIC -Xcompiler -fvisibility=hidden
            -I${PROJECT_SOURCE_DIR}/src -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${kernel} -o ${object}
    DEPENDS ${kernel}
    DEPFILE ${object}.d
    COMMENT "nvcc ${kernel}"
    VERBATIM)
  list(APPEND objects ${object})
endforeach()
add_library(erne_cuda MODULE ${gpu_sources} rt/runtime_cuda.cc plugin.cc ${objects})
target_include_directories(erne_cuda PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_include_directories(erne_cuda SYSTEM PRIVATE ${cuda_root}/include)
target_link_libraries(erne_cuda PRIVATE erne_device ${ERNE_CUDART} ${CMAKE_DL_LIBS} rt)
# Only the backend's own two symbols leave the library.
target_link_options(erne_cuda PRIVATE -Wl,--exclude-libs,ALL -Wl,--no-undefined)
set_target_properties(erne_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
