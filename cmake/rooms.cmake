# What nearly every file includes, parsed once: for the tests always, for the rooms in builds that are only tested
# (ERNE_QUICK).
set(common_headers <algorithm> <filesystem> <functional> <map> <memory> <optional> <span> <string> <vector>
    <nlohmann/json.hpp>)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/empty.cc CONTENT "")
if(ERNE_QUICK)
  add_library(rooms_pch OBJECT ${CMAKE_BINARY_DIR}/empty.cc)
  target_link_libraries(rooms_pch PRIVATE fmt::fmt)
  target_precompile_headers(rooms_pch PRIVATE ${common_headers})
endif()
if(ERNE_TESTS)
  add_library(tests_pch OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/empty.cc)
  target_link_libraries(tests_pch PRIVATE fmt::fmt GTest::gtest GTest::gmock)
  target_precompile_headers(tests_pch PRIVATE ${common_headers} <gtest/gtest.h> <gmock/gmock.h>)
  target_compile_options(tests_pch PRIVATE ${ERNE_TEST_OPTIONS})
endif()

# erne_room(NAME SOURCES a.cc b.cc DEPS base tensor LIBS fmt::fmt): one folder under src/ = one static library.
add_custom_target(rooms COMMENT "every room's library, no program")
function(erne_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS;LIBS;PRIVATE_LIBS" ${ARGN})
  add_library(erne_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(erne_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  foreach(dep IN LISTS ROOM_DEPS)
    target_link_libraries(erne_${name} PUBLIC erne_${dep})
  endforeach()
  target_link_libraries(erne_${name} PUBLIC ${ROOM_LIBS} PRIVATE ${ROOM_PRIVATE_LIBS})
  add_dependencies(rooms erne_${name})
  if(ERNE_QUICK)
    target_precompile_headers(erne_${name} REUSE_FROM rooms_pch)
    set_target_properties(erne_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    target_compile_options(erne_${name} PRIVATE -Wno-subobject-linkage -Wno-unknown-warning-option)
  endif()
endfunction()

# erne_alone(a.cc): files that define in an anonymous namespace what another file of the room does too, and so are not
# compiled together with it. Files with options of their own are alone anyway.
function(erne_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# erne_kernels(OPTIONS -O3 SOURCES a.cc): files with optimisation of their own, in Debug builds too.
function(erne_kernels)
  cmake_parse_arguments(K "" "" "SOURCES;OPTIONS" ${ARGN})
  set_source_files_properties(${K_SOURCES} PROPERTIES COMPILE_OPTIONS "${K_OPTIONS}" SKIP_PRECOMPILE_HEADERS ON)
endfunction()

# erne_test(ROOM SOURCES a_test.cc DEPS engine LABELS unit): one test binary per room, one ctest entry per
# GoogleTest case would cost a process start each, so one entry per binary.
add_custom_target(unit_tests COMMENT "every test with the label unit")
function(erne_test room)
  cmake_parse_arguments(T "" "NAME;TIMEOUT" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  if(NOT T_NAME)
    set(T_NAME ${room}_test)
  endif()
  if(NOT T_LABELS)
    set(T_LABELS unit)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 600)
  endif()
  add_executable(${T_NAME} ${T_SOURCES})
  target_compile_definitions(${T_NAME} PRIVATE ERNE_TESTS_DIR="${PROJECT_SOURCE_DIR}/tests")
  target_include_directories(${T_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${T_NAME} PRIVATE ${ERNE_TEST_OPTIONS})
  target_precompile_headers(${T_NAME} REUSE_FROM tests_pch)
  target_link_libraries(${T_NAME} PRIVATE erne_${room} GTest::gtest GTest::gmock GTest::gtest_main ${T_LIBS})
  foreach(dep IN LISTS T_DEPS)
    target_link_libraries(${T_NAME} PRIVATE erne_${dep})
  endforeach()
  add_test(NAME ${T_NAME} COMMAND ${T_NAME})
  if("unit" IN_LIST T_LABELS)
    add_dependencies(unit_tests ${T_NAME})
  endif()
  set_tests_properties(${T_NAME} PROPERTIES LABELS "${T_LABELS}" TIMEOUT ${T_TIMEOUT})
endfunction()

# erne_e2e(NAME SCRIPT e2e/openai_test.py): a Python program that drives the binary. It finds the binary in ERNE_BINARY,
# the default model in ERNE_DEFAULT_MODEL (set by `./run test`) and exits 77 when what it needs is absent.
# tests/e2e/python picks the interpreter.
function(erne_e2e name)
  cmake_parse_arguments(E "" "SCRIPT;TIMEOUT" "ARGS;LABELS" ${ARGN})
  if(NOT E_TIMEOUT)
    set(E_TIMEOUT 600)
  endif()
  add_test(NAME ${name}
    COMMAND ${PROJECT_SOURCE_DIR}/tests/e2e/python ${PROJECT_SOURCE_DIR}/tests/${E_SCRIPT} ${E_ARGS})
  set_tests_properties(${name} PROPERTIES
    LABELS "e2e;${E_LABELS}" TIMEOUT ${E_TIMEOUT} SKIP_RETURN_CODE 77 RUN_SERIAL ON
    ENVIRONMENT "ERNE_BINARY=$<TARGET_FILE:erne>;ERNE_TESTS_DIR=${PROJECT_SOURCE_DIR}/tests")
endfunction()
