# Build options and the flags that every target shares.
option(ERNE_TESTS "build the tests" ON)
option(ERNE_FUZZ "build the libFuzzer targets (clang only)" OFF)
option(ERNE_CUDA "build the CUDA backend, liberne_cuda.so (needs nvcc)" OFF)
option(ERNE_EXAMPLES "build examples/" OFF)
option(ERNE_WERROR "treat warnings as errors" ON)
set(ERNE_SANITIZE "" CACHE STRING "sanitizers, e.g. address,undefined or thread")
option(ERNE_QUICK "precompile the common headers, compile up to 8 files of a room as one: hides a missing #include" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "build type" FORCE)
endif()
# Asserts that matter are ERNE_CHECK, on in every build; -O2 everywhere, kernels choose -O3 themselves.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# Contraction is written out (fma intrinsics): a result must not depend on how a loop was vectorised.
add_compile_options(-ffp-contract=off -Wall -Wextra -Wshadow -Wconversion)
# g++ 12 at -O2 sees uninitialised strings inside std::variant (GCC bug 105562 and kin) and overlapping copies in
# std::string's operator+ (bug 105651) where there are none.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wno-maybe-uninitialized -Wno-restrict)
endif()
if(ERNE_WERROR)
  add_compile_options(-Werror)
endif()
if(ERNE_SANITIZE)
  add_compile_options(-fsanitize=${ERNE_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${ERNE_SANITIZE})
  if(ERNE_SANITIZE MATCHES "address,undefined")
    # A fifth of the build: address sanitizer reports a null access too, and nothing here casts down a hierarchy blindly.
    # The first fault ends the program: nothing is compiled to go on after one.
    add_compile_options(-fno-sanitize=null,vptr -fno-sanitize-recover=undefined)
  endif()
endif()

# Tests are compiled to be run once. -fPIC: they share a precompiled header, which wants all compiled alike.
set(ERNE_TEST_OPTIONS -fPIC)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  list(APPEND ERNE_TEST_OPTIONS -O1)
endif()
if(ERNE_SANITIZE MATCHES "undefined")
  # What is tested is checked; checking GoogleTest's templates in every test too would double its compile time.
  list(APPEND ERNE_TEST_OPTIONS -fno-sanitize=undefined)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
