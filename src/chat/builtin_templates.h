// Chat templates for ERNIE 4.5 checkpoints that ship none. Formats: docs/serving.md; reconstructed
// for Thinking models from the published parsers, since the original template is not public.
#pragma once

#include <string_view>

namespace erne {

/// 0.3B, 21B-A3B, 300B-A47B and their Base versions: no tools, no reasoning.
inline constexpr std::string_view kErnieTemplate = R"jinja(
{%- set user_label = 'User: ' %}
{%- set assistant_label = 'Assistant: ' %}
{{- '<|begin_of_sentence|>' }}
{%- for message in messages %}
  {%- set text = message.content | default('', true) %}
  {%- if message.role in ('system', 'developer') %}
    {{- text ~ '\n' }}
  {%- elif message.role == 'user' %}
    {{- user_label ~ text ~ '\n' }}
  {%- elif message.role == 'assistant' %}
    {{- assistant_label ~ text ~ '<|end_of_sentence|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt is not defined or add_generation_prompt %}
  {{- assistant_label }}
{%- endif %}
)jinja";

/// 21B-A3B-Thinking. Always opens a think block, asked for a generation prompt or not; reasoning of
/// earlier questions is left out of the history.
inline constexpr std::string_view kErnieThinkingTemplate = R"jinja(
{%- set state = namespace(system='', last_question=-1) %}
{%- for message in messages %}
  {%- if message.role in ('system', 'developer') %}
    {%- set state.system = state.system ~ ('\n' if state.system else '') ~ message.content | default('', true) %}
  {%- elif message.role == 'user' %}
    {%- set state.last_question = loop.index0 %}
  {%- endif %}
{%- endfor %}
{{- '<|im_start|>system\n' }}
{%- if state.system %}
  {{- '<system_setting>\n' ~ state.system ~ '\n</system_setting>\n\n' }}
{%- endif %}
{{- '<global_setting>\nthink_mode=True\n</global_setting>' }}
{%- if tools %}
  {{- '\n\n<tool_list>\n[' }}
  {%- for tool in tools %}
    {{- '{"type": "function", "function": ' ~ (tool.function | default(tool)) | tojson ~ '}' }}
    {{- '' if loop.last else ', ' }}
  {%- endfor %}
  {{- ']\n</tool_list>' }}
{%- endif %}
{{- '<|im_end|>\n\n' }}
{%- for message in messages %}
  {%- set text = message.content | default('', true) %}
  {%- if message.role == 'user' %}
    {{- '<|im_start|>user\n' ~ text ~ '<|im_end|>\n\n' }}
  {%- elif message.role == 'assistant' %}
    {{- '<|im_start|>assistant\n' }}
    {%- if loop.index0 > state.last_question %}
      {{- '<think>\n' ~ message.reasoning_content | default('', true) ~ '\n</think>\n' }}
    {%- endif %}
    {%- if text %}
      {{- '<response>\n' ~ text ~ '\n</response>\n' }}
    {%- endif %}
    {%- for call in message.tool_calls | default([], true) %}
      {%- set function = call.function | default(call) %}
      {{- '\n<tool_call>\n{"name": ' ~ function.name | tojson ~ ', "arguments": ' }}
      {{- function.arguments if function.arguments is string else function.arguments | default({}, true) | tojson }}
      {{- '}\n</tool_call>\n' }}
    {%- endfor %}
    {{- '<|im_end|>\n\n' }}
  {%- elif message.role in ('tool', 'function') %}
    {{- '<|im_start|>user\n<tool_response>\n' ~ text ~ '\n</tool_response><|im_end|>\n\n' }}
  {%- endif %}
{%- endfor %}
{{- '<|im_start|>assistant\n<think>\n' }}
)jinja";

}  // namespace erne
