#!/usr/bin/env python3
"""make_chat.py - conversations rendered by template.jinja with Jinja2: cases.jsonl. --check compares instead.

Cases with "fixed": true are inputs on which the published template misbehaves. Their text is what is
meant: the input is first put right by mend() below, then rendered.
"""
import json
import os
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
BOS, EOT = "<|begin_of_text|>", "<|eot|>"


def head(role):
    return f"<|header_start|>{role}<|header_end|>\n\n"


def renderer():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    with open(os.path.join(HERE, "template.jinja"), encoding="utf-8") as f:
        return env.from_string(f.read())


def joined(content):
    """Content parts as the one string that they print as."""
    if isinstance(content, str):
        return content
    return "".join("<|image|>" if p["type"] == "image" else p["text"] if p["type"] == "text" else "" for p in content)


def mend(case):
    out = dict(case, messages=[])
    for m in case["messages"]:
        m = dict(m)
        if "tool_calls" in m and not m["tool_calls"]:            # empty or null: an ordinary message
            del m["tool_calls"]
        if m.get("content") is None:
            m["content"] = ""
        if "tool_calls" in m:                                    # arguments as a JSON text: the object it holds
            calls = []
            for call in m["tool_calls"]:
                f = dict(call["function"])
                if isinstance(f["arguments"], str):
                    f["arguments"] = json.loads(f["arguments"])
                calls.append(dict(call, function=f))
            m["tool_calls"] = calls
        out["messages"].append(m)
    first = 1 if out["messages"] and out["messages"][0]["role"] == "system" else 0
    tools = case["custom_tools"] if "custom_tools" in case else case["tools"]
    if tools is not None and case["tools_in_user_message"] and len(out["messages"]) > first:
        m = out["messages"][first]
        out["messages"][first] = dict(m, content=joined(m["content"]))
    return out


def user(c): return {"role": "user", "content": c}
def system(c): return {"role": "system", "content": c}
def assistant(c): return {"role": "assistant", "content": c}
def tool(c, role="tool"): return {"role": role, "content": c}
def text(t): return {"type": "text", "text": t}


def calls(content, *pairs):
    return {"role": "assistant", "content": content,
            "tool_calls": [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in pairs]}


IMAGE = {"type": "image"}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city, \"now\"",
           "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Name; e.g. Zürich"},
                          "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["city"]}}}
BARE = {"name": "f2", "parameters": {}}
ODD = {"name": "odd", "list": [], "nested": [[1, 2], {"a": None, "b": True}], "slash": "a/b\\c", "control": "\u0001\t\n\u007f", "n": -7, "x": 0.1,
       "日本": "語 🙂 <&>'"}


def plain_cases():
    """(name, messages, options)"""
    yield "user, generation prompt", [user(" Hi ")], dict(gen=True)
    yield "system trimmed, assistant not", [system(" S "), user("U"), assistant("A ")], {}
    yield "images between text", [user([IMAGE, text("and"), IMAGE, text("compare")])], {}
    yield "two calls and a result", [user("W?"), calls("", ("get_weather", {"city": "Zürich"}), ("f2", {})),
                                     tool('sunny "x"')], {}
    yield "result is an object", [user("W?"), calls("", ("f", {})), tool({"a": 1, "b": [1, 2]})], {}
    yield "system and one tool", [system("S"), user("W?")], dict(tools=[WEATHER])

    yield "no messages", [], {}
    yield "no messages, generation prompt", [], dict(gen=True)
    yield "only system", [system("Be brief.")], {}
    yield "only system, generation prompt", [system("Be brief.")], dict(gen=True)
    yield "empty user", [user("")], dict(gen=True)
    yield "empty system", [system(""), user("U")], dict(gen=True)
    yield "blank system", [system(" \n\t "), user("U")], {}
    yield "system trimmed of unicode blanks", [system("\u00a0\u3000 S s \u2028\n"), user("\u00a0U\u3000")], {}
    yield "zero-width space is no blank", [system("\u200bS\u200b"), user("U")], {}
    yield "user content kept", [user("\n\n  two lines\n  \n"), assistant("\n")], {}
    yield "system later", [user("U"), system("  later  "), assistant("A")], {}
    yield "two systems", [system(" first "), system(" second "), user("U")], {}
    yield "several turns", [system("S"), user("1"), assistant("2"), user("3"), assistant("4"), user("5")], dict(gen=True)
    yield "consecutive users", [user("a"), user("b"), user("c")], dict(gen=True)
    yield "assistant first", [assistant("A"), user("U")], dict(gen=True)
    yield "unknown role", [{"role": "narrator", "content": "once"}], {}
    yield "other languages", [system("Réponds."), user("日本語 🙂 שלום"), assistant("d'accord")], dict(gen=True)
    yield "special names in content", [user("a <|eot|> b <|header_start|>system<|header_end|>")], dict(gen=True)
    yield "braces and template signs", [user("{{ x }} {% if %} {# #} {\"a\": 1}")], {}
    yield "carriage returns", [user("a\r\nb\r\n"), assistant("\r\n")], {}
    yield "trailing blanks in system list", [system([text("  S \n")]), user("U")], {}
    yield "system list, first part only", [system([text(" one "), text("two")]), user("U")], {}
    yield "user list, one text", [user([text(" Hi ")])], dict(gen=True)
    yield "user list, texts joined", [user([text("a"), text(" "), text("\nb")])], {}
    yield "empty list", [user([])], dict(gen=True)
    yield "image alone", [user([IMAGE])], dict(gen=True)
    yield "image with more keys", [user([{"type": "image", "image": "x.jpg"}, text("What?")])], dict(gen=True)
    yield "unknown part prints nothing", [user([text("a"), {"type": "audio", "data": "x"}, text("b")])], {}
    yield "images in two messages", [user([IMAGE, text("one")]), assistant([text("A")]), user([text("two"), IMAGE])], dict(gen=True)
    yield "list in assistant", [user("U"), assistant([text("a"), text("b")])], {}

    yield "tools in user", [user("W?")], dict(tools=[WEATHER], gen=True)
    yield "tools in user, content trimmed", [user("  W?\n")], dict(tools=[WEATHER])
    yield "two tools", [user("W?")], dict(tools=[WEATHER, BARE])
    yield "no tools in the list", [user("W?")], dict(tools=[], gen=True)
    yield "no tools in the list, system", [system("S"), user("W?")], dict(tools=[])
    yield "odd values in a tool", [user("W?")], dict(tools=[ODD])
    yield "tools in system", [system(" S "), user(" W? ")], dict(tools=[WEATHER], in_user=False, gen=True)
    yield "two tools in system", [system("S"), user("W?")], dict(tools=[BARE, WEATHER], in_user=False)
    yield "empty list of tools in system", [system("S"), user("W?")], dict(tools=[], in_user=False)
    yield "empty system with tools", [system(""), user("W?")], dict(tools=[BARE])
    yield "empty system with tools in system", [system(""), user("W?")], dict(tools=[BARE], in_user=False)
    yield "tools in system, list content", [system("S"), user([text("a"), IMAGE])], dict(tools=[BARE], in_user=False)
    yield "system list and tools", [system([text(" S ")]), user("W?")], dict(tools=[BARE])
    yield "custom tools", [user("W?")], dict(custom=[BARE])
    yield "custom tools override", [system("S"), user("W?")], dict(tools=[WEATHER], custom=[BARE])
    yield "custom tools in system", [system("S"), user("W?")], dict(custom=[BARE], in_user=False)
    yield "tools, first message is of the assistant", [assistant(" A "), user(" U ")], dict(tools=[BARE])
    yield "tools, later messages untrimmed", [user(" a "), assistant(" b "), user(" c ")], dict(tools=[BARE], gen=True)
    yield "tools and system later", [user("a"), system(" s ")], dict(tools=[BARE])
    yield "tools, empty user", [user("  ")], dict(tools=[BARE], gen=True)
    yield "in_user false without tools", [system("S"), user("U")], dict(in_user=False)

    yield "call with text", [user("W?"), calls("Let me look.", ("f", {"a": 1}))], {}
    yield "call with list content", [user("W?"), calls([text("a"), text(" b")], ("f", {"a": 1}))], {}
    yield "call, all kinds of values", [user("W?"), calls("", ("f", {
        "s": "q\" b\\ n\n t\t u\u0001 é 🙂 /", "i": 3, "neg": -12, "f": 21.5, "tenth": 0.1, "whole": 3.0, "t": True, "n": None,
        "l": [1, [], {}, "x"], "o": {"k": {"z": 1, "a": 2}}, "": ""}))], {}
    yield "call, floats far off", [user("W?"), calls("", ("f", {"a": 1e100, "b": 1e-07, "c": 1.5e300, "d": 123456789.125,
                                                                "e": 1e16, "f": 0.0001, "g": -0.0}))], {}
    yield "call, big integer", [user("W?"), calls("", ("f", {"id": 9007199254740993, "least": -9223372036854775808}))], {}
    yield "call, arguments a list", [user("W?"), calls("", ("f", [1, "two"]))], {}
    yield "three calls", [user("W?"), calls("", ("a", {}), ("b", {"x": "y"}), ("c", {"z": [0]}))], dict(gen=True)
    yield "calls with tools", [system("S"), user("W?"), calls("", ("get_weather", {"city": "Oslo", "unit": "C"})),
                               tool({"t": 21.5}), assistant("21.5 degrees."), user("Thanks ")], dict(tools=[WEATHER], gen=True)
    yield "result is a text", [user("W?"), tool(" a\n\"b\"\\ \u0007 é ")], {}
    yield "result is an empty text", [user("W?"), tool("")], {}
    yield "result is a list", [user("W?"), tool([1, "a", {"b": None}, [True, False]])], {}
    yield "result is a list of parts", [user("W?"), tool([text("sunny")])], {}
    yield "result is an integer", [user("W?"), tool(42)], {}
    yield "result is a float", [user("W?"), tool(-2.75)], {}
    yield "result is an empty object", [user("W?"), tool({})], {}
    yield "role ipython", [user("W?"), tool("x", "ipython"), tool({"a": "é"}, "ipython")], dict(gen=True)
    yield "two results", [user("W?"), calls("", ("a", {}), ("b", {})), tool("1"), tool("2")], dict(gen=True)


def fixed_cases():
    yield "tool_calls empty", [user("U"), {"role": "assistant", "content": "A", "tool_calls": []}, user("V")], {}
    yield "tool_calls null", [user("U"), {"role": "assistant", "content": "A", "tool_calls": None}], dict(gen=True)
    yield "call with null content", [user("W?"), calls(None, ("f", {"a": 1}))], {}
    yield "arguments are JSON text", [user("W?"), calls("", ("f", "{\"city\": \"Zürich\", \"n\": [1,2]}"))], {}
    yield "arguments are empty JSON text", [user("W?"), calls("", ("f", "{}"))], {}
    yield "tools, list content", [user([text(" What "), IMAGE, text("is this? ")])], dict(tools=[BARE], gen=True)
    yield "tools, system, list content", [system("S"), user([text("W?")])], dict(tools=[BARE])


def check_published(cases):
    """The renderings that the format's description gives."""
    u, s, a, i = head("user"), head("system"), head("assistant"), head("ipython")
    pre = ("Given the following functions, please respond with a JSON for a function call with its proper arguments "
           "that best answers the given prompt.\n\nRespond in the format {\"name\": function name, \"parameters\": "
           "dictionary of argument name and its value}.Do not use variables.\n\n")
    want = {
        "user, generation prompt": BOS + u + " Hi " + EOT + a,
        "system trimmed, assistant not": BOS + s + "S" + EOT + u + "U" + EOT + a + "A " + EOT,
        "images between text": BOS + u + "<|image|>and<|image|>compare" + EOT,
        "two calls and a result": BOS + u + "W?" + EOT + a + '<|python_start|><|python_end|>{"name": "get_weather", '
        '"parameters": {"city": "Zürich"}}{"name": "f2", "parameters": {}}' + EOT + i + '"sunny \\"x\\""' + EOT,
        "result is an object": BOS + u + "W?" + EOT + a + '<|python_start|><|python_end|>{"name": "f", "parameters": '
        '{}}' + EOT + i + '{"a": 1, "b": [1, 2]}' + EOT,
        "system and one tool": BOS + s + "Environment: ipython\nS" + EOT + u + pre
        + json.dumps(WEATHER, indent=4, ensure_ascii=False) + "\n\nW?" + EOT,
        "tool_calls empty": BOS + u + "U" + EOT + a + "A" + EOT + u + "V" + EOT,
    }
    got = {c["name"]: c["text"] for c in cases}
    for name, wanted in want.items():
        assert got[name] == wanted, (name, got[name], wanted)


def main():
    template, cases = renderer(), []
    for fixed, source in ((False, plain_cases()), (True, fixed_cases())):
        for name, messages, o in source:
            case = dict(name=name, messages=messages, tools=o.get("tools"),
                        tools_in_user_message=o.get("in_user", True), add_generation_prompt=o.get("gen", False))
            if "custom" in o:
                case["custom_tools"] = o["custom"]
            given = mend(case) if fixed else case
            cases.append(dict(case, fixed=fixed, text=template.render(**given)))
    check_published(cases)
    out = "".join(json.dumps(c, ensure_ascii=False) + "\n" for c in cases)
    path = os.path.join(HERE, "cases.jsonl")
    if "--check" in sys.argv:
        same = open(path, encoding="utf-8", newline="").read() == out
        print("same" if same else "DIFFERS")
        return 0 if same else 3
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(out)
    print(len(cases), "cases, jinja2", jinja2.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
