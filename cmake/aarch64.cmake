# Debian's cross compiler for aarch64. Headers are shared with the host (/usr/include); libraries are not, so this
# compiles and archives but does not link programs.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
# Where the host's packages say what their headers are.
set(host_libraries /usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu)
list(APPEND CMAKE_PREFIX_PATH ${host_libraries}/cmake)
list(APPEND CMAKE_LIBRARY_PATH ${host_libraries})
# OpenSSL's and libcurl's generated headers; last, so that the C library's stay the target's.
set(CMAKE_CXX_FLAGS_INIT "-idirafter /usr/include/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu")
