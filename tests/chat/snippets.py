"""Snippets of the template language, each rendered by jinja2 in make_golden.py."""

VARIABLES = {
    "n": 7, "zero": 0, "neg": -3, "f": 2.5, "big": 1e20, "tiny": 1.5e-7, "t": True, "no": False, "nil": None,
    "s": "Hello, World", "empty": "", "u": "Grüße, 世界 🙂", "sp": "  padded\t\n", "multi": "a\nb\n\nc\n",
    "quote": "it's \"q\" \\ <b>&amp;\u0001\u007f\u2028",
    "xs": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "mixed": [1, "a", None, True, 2.0, [1], {"k": "v"}],
    "d": {"b": 2, "a": 1, "C": 3}, "nested": {"x": {"y": [{"z": "deep"}]}, "items": "own"}, "none_list": [],
    "people": [{"name": "Bo", "age": 30, "city": "x"}, {"name": "al", "age": 25, "city": "Y"},
               {"name": "Cy", "age": 30}],
    "schema": {"type": "object", "properties": {"q": {"type": "string", "description": "Größe > 1 & <2>"},
                                                "k": {"type": "integer", "default": 5, "minimum": -1.5}},
               "required": ["q"]},
}

EXPRESSIONS = """
1 + 2 * 3 - 4 / 2
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7.5 // 2, -7.5 % 2, 2 ** 10, 2 ** -1, 2.0 ** 3
1 / 3, 10 / 2, 1e16, 123456789012345680.0, 1e22, 1.0, 0.1 + 0.2, 1e-5, 0.0001, big, tiny, 100000000000000000000.0
0x1F, 0b101, 0o17, 1_000, 1_0.5
n + f, t + 1, -n, +n, -f, - -n
not t, not nil, not '', not none_list, not 0
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, True == 1, 'a' < 'b', [1, 2] < [1, 3], (1, 2) == (1, 2), [1] == (1,)
'a' == "a", 1 == '1', nil == none, none is none, xs == [3, 1, 2], d == {'a': 1, 'b': 2, 'C': 3}
n >= 7 and n <= 7, n > 7 or n < 7, n != 7
1 in xs, 9 in xs, 9 not in xs, 'World' in s, 'x' in s, 'a' in d, 1 in d, '' in s, 'a' in undefined_name
n and s, zero and s, zero or s, nil or empty or 'last', n or missing_name
'yes' if n > 3 else 'no', 'yes' if n < 3, 'a' if no else 'b' if no else 'c'
'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] ~ missing_name
'a' 'b' "c"
'a' * 3, 3 * 'ab', [1, 2] * 2, 'x' * -1
[1, 'a', none, true, 1.5], (1, 2), (1,), (), [], {}, {'a': 1, 2: 'b', none: [1]}, mixed
'%s is %d and %.2f or %5.1f|%-5s|%5s|%05d|%x|%%' % ('a', 3, 1.005, 2.25, 'ab', 'cd', 42, 255)
'%s' % 'x', '%s' % [1, 2], '%(a)s-%(b)s' % {'a': 1, 'b': 2}, '%r' % 'it', '%+d' % 3, '%s' % none, '%e' % 12345.678
'{} {} {}'.format(1, 'a', none), '{0}{1}{0}'.format('a', 'b'), '{x}:{y}'.format(x=1, y='z'), '{{}}'.format()
'{:>5}|{:<5}|{:^5}|{:*^7}|{:05d}|{:.2f}|{:,}|{:x}|{:%}'.format('a', 'b', 'c', 'd', 42, 3.14159, 1234567, 255, 0.5)
'{0[k]} {1.name}'.format({'k': 'v'}, {'name': 'n'})
s[0], s[-1], s[1:5], s[:3], s[-3:], s[::2], s[::-1], s[5:1], s[5:1:-1], s[100], s[-100:2], s[:]
u[0], u[-1], u[2:5], u[::-1], u | length, u[7:9]
xs[0], xs[-1], xs[1:], xs[::-1], xs[5:], xs[:-1], xs[-2:], xs[::2], (1, 2, 3)[1:]
xs[10] is defined, d['a'], d.a, d.zzz is defined, d['zzz'] is defined, nested.x.y[0].z, nested['x']['y'][0]['z']
nested.items() | list | length, nested['items'], d.items() | list, d.keys() | list, d.values() | list
d.get('a'), d.get('zz'), d.get('zz', 'dflt'), d.get('zz') is none
people[0].name, people.0.name, xs.1
s.upper(), s.lower(), s.title(), s.capitalize(), s.swapcase(), 'ß'.upper(), u.upper(), u.lower(), 'ÄÖ é'.title()
"they're bill's friends".title(), "they're bill's <friends> (a-b) [c] {d}" | title, 'hELLO wORLD' | capitalize
sp.strip() | tojson, sp.lstrip() | tojson, sp.rstrip() | tojson, 'xxaxx'.strip('x'), 'abcba'.lstrip('ab'), 'abcba'.rstrip('ab')
sp | trim, 'xxaxx' | trim('x'), '\\u3000wide\\u00a0' | trim
'a,b,,c'.split(','), ' a  b c '.split(), 'a b c'.split(' ', 1), 'a b c'.rsplit(' ', 1), ''.split(), ''.split(','), ' a b c '.split(none, 1), ' a b c '.rsplit(none, 1)
'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'abc'.partition('='), 'abc'.rpartition('=')
multi.splitlines(), multi.splitlines(true), 'a\\r\\nb\\x0bc'.splitlines(), ''.splitlines()
s.startswith('Hello'), s.startswith(('x', 'H')), s.endswith('d'), s.endswith('x'), s.startswith('World', 7), s.startswith('')
s.find('o'), s.find('o', 5), s.find('zz'), s.rfind('o'), s.index('W'), u.find('世'), s.count('l'), s.count(''), 'aaa'.count('aa')
s.replace('l', 'L'), s.replace('l', 'L', 1), 'abc'.replace('', '-'), s | replace('o', '0'), s | replace('o', '0', 1), 5 | replace(5, 6)
'-'.join(words), ','.join(['a']), ''.join([]), words | join, xs | join(', '), people | join('/', attribute='name'), s | join('.')
'abc'.isalpha(), '123'.isdigit(), 'a1'.isalnum(), ' '.isspace(), 'ABC'.isupper(), 'abc'.islower(), ''.isalpha(), 'A1'.isupper(), '1'.isupper()
'x'.center(5, '*'), 'x'.center(4), 'xy'.center(5) ~ '|', 'x'.ljust(3, '.'), 'x'.rjust(3, '.'), '7'.zfill(3), '-7'.zfill(4), 'x' | center(5) ~ '|'
'prefix-x'.removeprefix('prefix-'), 'x.py'.removesuffix('.py'), 'x'.removeprefix('y')
s['upper'](), d['get']('a')
xs | length, s | count, d | length, none_list | length, missing_name | length, (1, 2) | length
xs | first, xs | last, none_list | first is defined, s | first, s | last, d | first, missing_name | first is defined
xs | sort, xs | sort(reverse=true), words | sort, words | sort(case_sensitive=true), people | sort(attribute='age') | map(attribute='name') | list
people | sort(attribute='age,name') | map(attribute='name') | list, words | sort(true)
words | unique | list, words | unique(true) | list, people | unique(attribute='age') | map(attribute='name') | list
xs | reverse | list, s | reverse, xs | min, xs | max, words | min, words | max(case_sensitive=true), people | max(attribute='age') | tojson
xs | sum, people | sum(attribute='age'), xs | sum(start=10), [1.5, 2] | sum
xs | map('string') | list, words | map('upper') | join(','), xs | map('default', 5) | list, people | map(attribute='city', default='?') | list
people | map(attribute='city') | list | length, [[1, 2], [3]] | map('first') | list, ['a b', 'c'] | map('replace', 'a', 'z') | list
xs | select('odd') | list, xs | select('gt', 1) | list, xs | reject('even') | list, mixed | select | list | length, mixed | select('string') | list
people | selectattr('age', 'equalto', 30) | map(attribute='name') | list, people | selectattr('city', 'defined') | list | length
people | rejectattr('city') | map(attribute='name') | list, people | selectattr('age', '==', 25) | first | tojson, people | rejectattr('age', 'gt', 26) | list | length
xs | batch(2) | list, xs | batch(2, 0) | list, people | groupby('age') | map('first') | list, words | groupby(0) | list | length
d | dictsort, d | dictsort(true), d | dictsort(by='value'), d | dictsort(reverse=true), d | items | list, missing_name | items | list
'3' | int, '3.7' | int, 'x' | int, 'x' | int(9), '0x1f' | int(base=16), '11' | int(base=2), 3.9 | int, -3.9 | int, true | int, ' 4 ' | int, none | int, '1_000' | int
'3.5' | float, 'x' | float, 'x' | float(1.5), 3 | float, '1e3' | float, ' 2 ' | float, 'inf' | float
2.5 | round, 3.5 | round, 2.675 | round(2), 42.55 | round(1, 'floor'), 42.55 | round(1, 'ceil'), 7 | round, -2.5 | round, 1234 | round(-2), 2.5 | round | int
-5 | abs, 5 | abs, -2.5 | abs, none | string, 5 | string, [1, 'a'] | string, true | string, 1.0 | string
missing_name | default('d'), nil | default('d'), nil | default('d', true), '' | default('d', boolean=true), n | d('x'), d.zz | default('q'), missing_name | default
s | upper | lower | title, 5 | upper, none | lower, s | wordcount, 'a-b c_d' | wordcount
'foo bar baz qux' | truncate(9), 'foo bar baz qux' | truncate(9, true), 'foo bar baz qux' | truncate(11), 'foo bar baz qux' | truncate(11, false, '...', 0)
multi | indent, multi | indent(2), multi | indent(2, true), multi | indent(2, blank=true), multi | indent('>> '), 'x' | indent(first=true)
s | list, d | list, 'abc' | list
'%s-%s' | format('a', 1), '%(x)s' | format(x=5)
n is defined, missing_name is defined, missing_name is undefined, n is not defined, d.zz is defined, d.a is defined
nil is none, n is none, missing_name is none, t is true, t is false, no is false, 1 is true, t is boolean, 1 is boolean
s is string, n is string, n is number, f is number, t is number, n is integer, t is integer, f is integer, f is float, s is number
d is mapping, xs is mapping, xs is sequence, s is sequence, d is sequence, n is sequence, xs is iterable, s is iterable, n is iterable, missing_name is iterable, missing_name is sequence
3 is odd, 3 is even, 9 is divisibleby 3, 9 is divisibleby(2), n is eq 7, n is equalto 7, n is ne 7, n is gt 5, n is lt 5, n is ge 7, n is le 6, n is greaterthan 3, n is lessthan 3
1 is in xs, 9 is in xs, 9 is not in xs, 'a' is in 'abc', 'a' is sameas 'a', none is sameas none, 'abc' is lower, 'ABC' is upper, 'Ab' is lower
range is callable, n is callable, 'upper' is filter, 'nope' is filter, 'odd' is test, 'nope' is test
n is string or n is number, n is defined and n is number, not n is string, n is not string and s is string
range(5) | list, range(1, 5) | list, range(5, 1, -2) | list, range(0) | list, range(3), range(1, 7, 2), range(3) | length, range(10)[2:4] | list, 3 in range(5)
dict(a=1, b='x'), dict({'a': 1}, b=2), dict([('x', 1)]), namespace(a=1).a
schema | tojson, schema | tojson(indent=2), schema | tojson(indent=0), xs | tojson(indent=1), {} | tojson(indent=2), [] | tojson(indent=2), schema | tojson(indent='\\t')
schema | tojson(separators=(',', ':')), d | tojson(sort_keys=true), u | tojson, u | tojson(ensure_ascii=true), quote | tojson, quote | tojson(ensure_ascii=true)
mixed | tojson, nil | tojson, t | tojson, 1.0 | tojson, 1e20 | tojson, tiny | tojson, 'a/b' | tojson, (1, 2) | tojson, {1: 2, none: 3, true: 4, 1.5: 5} | tojson, '\\x7f' | tojson
quote, [quote], ["it's"], ['"'], ["'\\""], ['\\n\\t\\\\'], ['é世🙂\\u200b'], {'k': "v'"}
'\\n\\t\\r\\\\\\'\\"\\x41\\u00e9\\U0001f642\\101\\q' | tojson
'line\\
joined'
words | map('length') | sum, words | map('upper') | map('lower') | list
(xs | sort)[0], (xs | length) + 1, -xs[0], -n | abs, - 5 | abs, 2 * -3, 2 - -3, not n == 7, not (n == 7)
xs + [4], (1,) + (2,), 'a' + 'b' + 'c', [1] + [2] == [1, 2], s[0] + s[1:] == s
n in [1, 7] and s in ['Hello, World'], n if n is defined else 0, (n if n is string else s) | upper
{'a': 1}.a, {'a': 1}['a'], [1, 2][0], (1, 2)[1], 'abc'[1], {'items': 5}['items'], ({'a': [1]}).a[0]
mixed[6].k, mixed[-1]['k'], mixed[5][0], people[-1].name[0] | upper
messages[0].role ~ ':' ~ messages[0]['content'], messages[-1]['role'], messages | length, tools is none, documents is none, add_generation_prompt
s.split(', ')[1].lower()[::-1] | upper | length, s.split()[-1], 'a|b|c'.split('|')[1], s.split('zzz')[0][:3]
'<think>x</think>y'.split('</think>')[-1].lstrip('\\n'), '<think>x</think>y'.split('</think>')[0].split('<think>')[-1].rstrip('\\n')
none_list or 'empty', [] == none_list, {} == {}, [none] == [nil], [[1, [2]]] == [[1, [2]]]
1 if true, (1 if false) is defined, 1 if missing_name is defined else 2
-1 ** 2, 2 ** 3 ** 2, -2 ** 2, 1 - 1 - 1, 8 / 2 / 2, 7 % 4 * 2, 1 + 2 ~ 3 + 4, 'a' ~ 1 + 2
""".strip("\n").replace("\\\n", "\\@@").split("\n")

STATEMENTS = [
    "{{ '<a href=\"x\">&' | escape }}{{ \"'\" | e }}{{ '<b>' | safe }}{{ xs | tojson | safe }}",
    "{% for x in xs %}{% if x != 1 %}{% continue %}{% endif %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in xs %}{% continue %}{% else %}none{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{% else %}none{% endfor %}", "{#", "{{", "{%",
    "{% for x in xs %}{{ x }}{% endfor %}",
    "{% for x in xs %}{{ loop.index }}/{{ loop.length }}:{{ loop.index0 }}{{ loop.first }}{{ loop.last }}"
    "{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    "{% for x in xs %}[{{ loop.previtem }}|{{ x }}|{{ loop.nextitem }}]{% endfor %}",
    "{% for x in xs %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for x in xs %}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in none_list %}x{% else %}none{% endfor %}",
    "{% for x in xs %}{% break %}{% else %}none{% endfor %}after",
    "{% for x in missing_name %}x{% else %}none{% endfor %}",
    "{% for x in xs if x > 1 %}{{ x }}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% for x in xs if x > 9 %}{{ x }}{% else %}nope{% endfor %}",
    "{% set ns = namespace(stop=false) %}{% for x in [1, 2, 3] if not ns.stop %}{{ x }}{% if x == 2 %}{% set ns.stop = true %}"
    "{% endif %}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}{% for c in 'héy' %}{{ c }}.{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in xs %}{% for y in 'ab' %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in xs %}{% set outer = loop %}{% for y in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [[1, [2, [3]]]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}",
    "{% for x in xs, words %}{{ x | length }}{% endfor %}",
    "{% for x in xs[::-1] %}{{ x }}{% endfor %}{% for x in xs | reverse %}{{ x }}{% endfor %}",
    "{% set g = xs | map('string') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% endfor %}",
    "{% set g = xs | select('odd') %}{{ g | first }}{{ g | list }}",
    "{% set x = 1 %}{% for i in xs %}{{ x }}{% set x = x + 1 %}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% for i in xs %}{% set y = i %}{% endfor %}{{ y is defined }}",
    "{% for i in xs %}{{ i }}{% endfor %}{{ i is defined }}",
    "{% set i = 'o' %}{% for i in xs %}{{ i }}{% endfor %}{{ i }}",
    "{% set ns = namespace(c=0, l=[]) %}{% for i in xs %}{% set ns.c = ns.c + i %}{% set ns.l = ns.l + [i] %}{% endfor %}"
    "{{ ns.c }}{{ ns.l }}{{ ns.zz is defined }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}{{ ns['a'] }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, e) = [3, 4] %}{{ c }}{{ e }}",
    "{% set t3 = 1, 2, 3 %}{{ t3 }}{% set one = 1, %}{{ one }}",
    "{% set b %}text {{ n }}{% endset %}[{{ b }}]{% set b | upper | trim %}  text {{ n }} {% endset %}[{{ b }}]",
    "{% set z = 1 %}{% set b %}{% set z = 2 %}{{ z }}{% endset %}{{ b }}{{ z }}",
    "{% if n > 10 %}a{% elif n > 5 %}b{% elif true %}c{% else %}d{% endif %}",
    "{% if missing_name %}a{% else %}b{% endif %}{% if missing_name is defined and missing_name.x %}c{% endif %}",
    "{% if not missing_name %}x{% endif %}{% if d.zz %}y{% endif %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=5) }}|{{ m(b=3, a=4) }}",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m(a) %}<{{ caller(a) }}>{% endmacro %}{% call(v) m(5) %}got {{ v }}{% endcall %}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% set g = 'global' %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 'later' %}{{ m() }}",
    "{% macro m(x) %}{{ x | upper }}{% endmacro %}{% set f2 = m %}{{ f2('a') }}{{ m.name }}",
    "{% macro outer() %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}",
    "{% macro m(*args) %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(z=2) }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | upper %}aXa{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ b }}{% endwith %}{% with %}{% set a = 9 %}{{ a }}{% endwith %}{{ a }}",
    "{% generation %}x{{ n }}{% endgeneration %}y",
    "{% raw %}{{ n }} {% if %}{% endraw %}!",
    "{%- raw -%}  {{ n }}  {%- endraw -%}  !",
    "a{# comment #}b{#- x -#} c {#+ y +#} d",
    "{# multi\nline #}\nx\n{# a #}\ny",
    "  {% if true %}\n  x\n  {% endif %}\ny",
    "  {%- if true %}\n  x\n  {%- endif %}\ny",
    "  {%+ if true %}\n  x\n  {%+ endif +%}\ny",
    "  {% if true -%}\n  x\n  {% endif -%}\n  y",
    "a  {{- n -}}  b  {{ n }}  c",
    "a\n  {{ n }}\n  b\n",
    "a\n\n{{ n }}\n\n",
    "{% if true %}\n\n  x\n{% endif %}\n\ny\n",
    "x {% if true %} y {% endif %} z",
    "\t{% set x = 1 %}\n{{ x }}",
    "text {% set x = 1 %}\n{{ x }}",
    "{{ n }}{% set x = 1 %}\n {{ x }}",
    "a\r\nb\rc\n{% if true %}\r\nd{% endif %}",
    "{% for x in xs %}\n  {{ x }}\n{% endfor %}\nend",
    "{% for x in xs -%}\n  {{ x }}\n{%- endfor %}\nend",
    "{{ '{{' }}{{ '}}' }}{{ '{%' }}",
    "{{ {'a': {'b': 1}}.a.b }}{{ {'a': {}} }}",
    "{{ n }}}",
    "{ {{ n }} } % # {x} {",
    "{{ n\n+\n1 }}",
    "{{ [1,\n2,\n] }}{{ {'a': 1,} }}{{ (1, 2,) }}{{ dict(a=1,) }}",
    "{%if n%}x{%endif%}{%-if n-%} y {%-endif-%}",
    "{{ raise_exception('stop') }}",
    "{% if n > 100 %}{{ raise_exception('no') }}{% endif %}fine",
    "{{ missing_name.attr }}", "{{ missing_name['x'] }}", "{{ missing_name() }}", "{{ missing_name + 1 }}",
    "{{ d.zz.yy }}", "{{ nil.x is defined }}", "{{ nil.x }}", "{{ nil.x.y }}", "{{ n.x }}", "{{ s.nope }}",
    "{{ s.nope() }}", "{{ xs.append(4) }}", "{{ d.update({}) }}", "{{ xs.pop() }}", "{{ s() }}", "{{ d.pop('a') }}",
    "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ none + 1 }}", "{{ 1 < 'a' }}", "{{ 1 in 5 }}", "{{ 5 in 'abc' }}",
    "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ [1] + (2,) }}", "{{ xs | join(1, 2, 3) }}", "{{ s | nope }}", "{{ s is nope }}",
    "{{ none | length }}", "{{ 5 | length }}", "{{ 5 | first }}", "{{ none | tojson(foo=1) }}", "{{ missing_name | tojson }}",
    "{{ {[1]: 2} }}", "{{ range }}{{ }}", "{{ }}", "{% %}", "{{ n", "{% if n %}", "{% endif %}", "{{ 'a }}", "{{ n ! }}",
    "{% for x %}{% endfor %}", "{% set %}", "{% set n.x = 1 %}", "{% set d.a = 1 %}", "{% set 5 = 1 %}", "{% set true = 1 %}",
    "{{ (1 }}", "{{ [1 }}", "{{ 1) }}", "{{ n n }}", "{{ is n }}", "{{ n is }}", "{{ n | }}", "{{ . }}", "{# open", "{% raw %}",
    "{% break %}", "{% for x in xs %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{{ f(**5) }}", "{{ '%d' % 'x' }}",
    "{{ '%s %s' % ('a',) }}", "{{ '%s' % ('a', 'b') }}", "{{ '{}'.format() }}", "{{ range(0, 10, 0) }}",
    "{% set a, b = [1] %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{{ loop }}", "{{ s | int(base=99) }}",
    "{{ range(100001) | length }}", "{{ range(100000) | length }}", "{{ xs | sort(attribute='q') }}", "{{ mixed | sort }}",
    "{{ n is string is number }}", "{{ s[0:1, 2] }}", "{{ a.b.c is defined }}", "{{ people | map(attribute='zz.q') | list }}",
    "{% set m = messages %}{% for message in m %}{{ message['role'] }}{% endfor %}",
    "{% set loop_messages = messages[1:] %}{{ loop_messages | length }}{{ loop_messages }}",
    "{% if messages[0]['role'] == 'system' %}s{% else %}u{% endif %}",
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>\n' + m['content'] | trim + '\n' }}{% endfor %}",
    "{{ (messages | selectattr('role', 'equalto', 'user') | list)[0].content }}",
    "{{ messages | selectattr('role', 'in', ['user', 'tool']) | map(attribute='content') | join(',') }}",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}bad{% endif %}ok{% endfor %}",
    "{% macro j(v) -%}\n  {%- if v is mapping -%}map{%- elif v is string -%}str{%- elif v is sequence -%}seq{%- else -%}"
    "{{ v }}{%- endif -%}\n{%- endmacro -%}\n{{ j(d) }} {{ j(s) }} {{ j(xs) }} {{ j(n) }}",
    "{%- for p, q in schema.properties | items %}\n- {{ p }}: {{ q.type }}{{ ' (' ~ q.description ~ ')' if q.description }}\n"
    "{%- endfor %}",
    "{{ (strftime_now('%Y') | length) }}{{ strftime_now('%d %b') is string }}",
    "{{- bos -}} x {{- '' }}  y",
    "{% set content = '' %}{% for c in 'abc' %}{% set content = content ~ c %}{% endfor %}[{{ content }}]",
    "{{ 'x' if messages|length > 1 and messages[1].role == 'user' else 'y' }}",
    "{% set ns = namespace(i=messages|length - 1) %}{% for m in messages[::-1] %}{{ ns.i - loop.index0 }}{% endfor %}",
]


def parts(line):
    """The expressions of a line, separated by commas outside of brackets and strings."""
    found, start, depth, quote = [], 0, 0, None
    at = 0
    while at < len(line):
        char = line[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = None
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            found.append(line[start:at].strip())
            start = at + 1
        at += 1
    return [*found, line[start:].strip()]


# Each expression alone, so that a difference names it, and each line as the tuple that it is, so that repr() is covered.
LINES = [line.replace("\\@@", "\\\n") for line in EXPRESSIONS]
SNIPPETS = list(dict.fromkeys(
    ["{{ " + part + " }}" for line in LINES for part in parts(line)] + ["{{ " + line + " }}" for line in LINES] + STATEMENTS))
