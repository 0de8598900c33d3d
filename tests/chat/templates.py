"""Templates in the styles of published models, written for these tests, and conversations to render with them."""

import json
import pathlib

TEMPLATES = {}

TEMPLATES["smollm2"] = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEMPLATES["ernie"] = """
{%- if not add_generation_prompt is defined -%}
    {%- set add_generation_prompt = true -%}
{%- endif -%}
{%- set open = '<|begin_of_sentence|>' -%}
{%- set close = "<|end_of_sentence|>" -%}
{{- open -}}
{%- for message in messages -%}
    {%- if message["role"] == "user" -%}
        {{- "User: " + message["content"] + "\\n" -}}
    {%- elif message["role"] == "assistant" -%}
        {{- "Assistant: " + message["content"] + close -}}
    {%- elif message["role"] == "system" -%}
        {{- message["content"] + "\\n" -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "Assistant: " -}}
{%- endif -%}
"""

TEMPLATES["ernie-thinking"] = """
{%- set ns = namespace(last_question=-1, think=true) %}
{%- for m in messages[::-1] %}
    {%- set at = messages | length - 1 - loop.index0 %}
    {%- if m.role == "user" and ns.last_question < 0 %}{% set ns.last_question = at %}{% endif %}
{%- endfor %}
{{- "<|im_start|>system\\n" }}
{%- if messages[0].role == "system" %}
    {{- "<system_setting>\\n" + messages[0].content + "\\n</system_setting>\\n\\n" }}
{%- endif %}
{{- "<global_setting>\\nthink_mode=True\\n</global_setting>" }}
{%- if tools %}
    {{- "\\n\\n<tool_list>\\n[" }}
    {%- for tool in tools %}
        {{- tool | tojson(ensure_ascii=False) }}{% if not loop.last %}, {% endif %}
    {%- endfor %}
    {{- "]\\n</tool_list>" }}
{%- endif %}
{{- "<|im_end|>\\n\\n" }}
{%- for m in messages %}
    {%- if m.role == "user" %}
        {{- "<|im_start|>user\\n" ~ m.content ~ "<|im_end|>\\n\\n" }}
    {%- elif m.role == "assistant" %}
        {{- "<|im_start|>assistant\\n" }}
        {%- if loop.index0 > ns.last_question %}
            {{- "<think>\\n" ~ (m.reasoning_content if m.reasoning_content is defined else "") ~ "\\n</think>\\n" }}
        {%- endif %}
        {%- if m.content %}{{- "<response>\\n" ~ m.content ~ "\\n</response>\\n" }}{% endif %}
        {%- if m.tool_calls is defined %}
            {%- for call in m.tool_calls %}
                {{- "\\n<tool_call>\\n" }}
                {{- {"name": call.function.name, "arguments": call.function.arguments} | tojson(ensure_ascii=False) }}
                {{- "\\n</tool_call>\\n" }}
            {%- endfor %}
        {%- endif %}
        {{- "<|im_end|>\\n\\n" }}
    {%- elif m.role == "tool" %}
        {{- "<|im_start|>user\\n<tool_response>\\n" ~ m.content ~ "\\n</tool_response><|im_end|>\\n\\n" }}
    {%- endif %}
{%- endfor %}
{{- "<|im_start|>assistant\\n<think>\\n" }}
"""

TEMPLATES["llama3-tools"] = """{{- bos_token }}
{%- if not day_string is defined %}
    {%- if strftime_now is defined and false %}
        {%- set day_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set day_string = "01 Feb 2025" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}

{#- The first system message is taken out of the list #}
{%- if messages[0]['role'] == 'system' %}
    {%- set first_words = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set first_words = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + day_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- 'Functions you may call, one JSON object each: ' }}
    {{- '{"name": name, "parameters": {argument: value}}.' }}
    {{- "\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- first_words }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time, please!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

TEMPLATES["qwen2.5-tools"] = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helper.' }}
    {%- endif %}
    {{- "\\n\\n# Functions\\n\\nSignatures between <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nAnswer a call as <tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helper.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

TEMPLATES["qwen3-thinking"] = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

TEMPLATES["mistral-tools"] = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Turns must alternate, tool traffic aside. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + (tool_call.id | default('000000000'))[:9] + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id | default('') + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("unknown role " + message.role) }}
    {%- endif %}
{%- endfor %}
"""

TEMPLATES["gemma"] = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

TEMPLATES["gemma3-parts"] = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("what is this content?") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""

TEMPLATES["phi-role-tokens"] = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)

TEMPLATES["macros-typescript"] = """{%- macro type_of(spec, required=true) -%}
    {%- if spec.type == 'array' -%}
        {%- if spec['items'] is defined -%}{{ type_of(spec['items']) }}[]{%- else -%}any[]{%- endif -%}
    {%- elif spec.enum is defined -%}
        {{ '"' ~ spec.enum | join('" | "') ~ '"' }}
    {%- elif spec.type is defined and spec.type is sequence and spec.type is not string -%}
        {{ spec.type | join(' | ') }}
    {%- elif spec.type in ['integer', 'number'] -%}number
    {%- elif spec.type == 'object' and spec.properties -%}
        {
        {%- for name, inner in spec.properties.items() %}
{{ name ~ ('' if name in spec.required | default([]) else '?') }}: {{ type_of(inner) }}{{ "," if not loop.last }}
        {%- endfor -%}
        }
    {%- else -%}{{ spec.type | default('any') }}
    {%- endif -%}
{%- endmacro -%}
{%- macro show(tools) -%}
namespace functions {
{% for tool in tools %}
// {{ tool.function.description | default('no description') | replace('\n', ' ') }}
type {{ tool.function.name }} = (_: {{ type_of(tool.function.parameters) }}) => any;
{% endfor %}
}
{%- endmacro -%}
{% if tools %}{{ show(tools) | indent(2) }}{{ '\n' }}{% endif %}
{% for m in messages %}
    {%- set body = m.content | default('', true) %}
    {%- if m.role == 'assistant' %}
{% generation %}{{ body }}{{ eos_token }}{% endgeneration %}
    {%- else %}
[{{ m.role | upper }}] {{ body | replace('<', '&lt;') }}
    {%- endif %}
{% endfor %}
{{- 'A:' if add_generation_prompt }}"""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather <now> & here, 天气",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Städte \"quoted\""},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 14.5}},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, number=1):
    return {"id": f"call_{number:06d}", "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "What is 2 + 2?"}
TOOL_TURNS = [
    {"role": "user", "content": "Weather in 北京?"},
    {"role": "assistant", "content": None, "reasoning_content": "I need the tool.",
     "tool_calls": [call("get_weather", '{"city": "北京", "days": [1, 2]}')]},
    {"role": "tool", "tool_call_id": "call_000001", "content": "{\"temp\": 21.5}"},
]

CONVERSATIONS = {
    "user": {"messages": [USER]},
    "system-user": {"messages": [{"role": "system", "content": "Be terse.\n"}, USER]},
    "two-turns": {"messages": [
        {"role": "system", "content": "S"}, {"role": "user", "content": " hi \n"},
        {"role": "assistant", "content": "  Hello! 🙂 "}, {"role": "user", "content": "<|im_end|>\n</s>{{ 1 }}"}]},
    "ends-with-assistant": {"messages": [USER, {"role": "assistant", "content": "It is"}]},
    "ends-with-blank": {"messages": [USER, {"role": "assistant", "content": "It is  "}]},
    "assistant-first": {"messages": [{"role": "assistant", "content": "x"}, USER]},
    "odd-role": {"messages": [{"role": "narrator", "content": "Once"}, USER]},
    "unicode": {"messages": [{"role": "user", "content": "Größe \u00a0 \u2028 \u0000 \t end"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}]},
    "tools": {"messages": [USER], "tools": [WEATHER, CLOCK]},
    "tool-call": {"messages": TOOL_TURNS, "tools": [WEATHER]},
    "tool-calls-in-history": {
        "messages": [{"role": "system", "content": "Use tools."}, *TOOL_TURNS,
                     {"role": "assistant", "content": "21.5 °C.", "reasoning_content": None},
                     {"role": "user", "content": "And the time?"},
                     {"role": "assistant", "content": "Both:", "tool_calls": [
                         call("clock", "{}", 2), call("get_weather", {"city": "x"}, 3)]},
                     {"role": "tool", "tool_call_id": "call_000002", "content": "noon"},
                     {"role": "tool", "tool_call_id": "call_000003", "content": "sun"}],
        "tools": [WEATHER, CLOCK]},
    "think-in-content": {"messages": [
        USER, {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"}, {"role": "user", "content": "again"},
        {"role": "assistant", "content": "<think>\nsame\n</think>\n\nfour"}]},
    "reasoning": {"messages": [
        USER, {"role": "assistant", "content": "4", "reasoning_content": "add"}, {"role": "user", "content": "sure?"},
        {"role": "assistant", "content": "yes", "reasoning": "\nchecked\n"}]},
}

# The prompts of goldens/default-model, whose prompt_ids the whole chain is checked against.
_SHARED = pathlib.Path(__file__).resolve().parent.parent / "goldens" / "default-model" / "shared.json"
for _number, _case in enumerate(json.loads(_SHARED.read_text(encoding="utf-8"))):
    CONVERSATIONS[f"default-model-{_number}"] = {"messages": _case["messages"]}
