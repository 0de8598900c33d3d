# erne_embed(TARGET SYMBOL FILE): compiles a file into the target as `extern const std::string_view erne::SYMBOL;`, made
# anew whenever the file changes.
set(ERNE_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/embed_file.cmake)
function(erne_embed target symbol file)
  get_filename_component(input ${file} ABSOLUTE BASE_DIR ${PROJECT_SOURCE_DIR})
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cc)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DINPUT=${input} -DOUTPUT=${output} -DSYMBOL=${symbol} -P ${ERNE_EMBED_SCRIPT}
    DEPENDS ${input} ${ERNE_EMBED_SCRIPT}
    COMMENT "embedding ${file}"
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
