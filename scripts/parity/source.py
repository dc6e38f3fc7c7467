"""What a Rust workspace defines and which tests it has, read from its text: no compiler, no network, under a second.

It knows what this workspace writes: modules in files and in braces, `#[path]`, `#[test]` and its kin, `proptest!`, and the
macros of ours that make tests (MAKERS). A test that it cannot see is reported as missing, never the other way round.
"""

import functools
import re
import tomllib
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<block>/\*)
      | (?P<raw>b?r(?P<hash>\#*)"(?:.|\n)*?"(?P=hash))
      | (?P<text>b?"(?:\\(?:.|\n)|[^"\\])*")
      | (?P<char>b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])')
      | (?P<life>'[A-Za-z_]\w*)
      | (?P<word>(?:r\#)?[A-Za-z_]\w*)
      | (?P<number>\d[\w.]*?(?=\.\.|[^\w.]|$))
      | (?P<mark>.)""",
    re.X,
)


@functools.cache
def tokens(text):
    """The tokens of `text` without comments: words and marks as they are, a string as itself, other literals as `0`."""
    at, found = 0, []
    while at < len(text):
        match = TOKEN.match(text, at)
        kind, piece = match.lastgroup, match.group()
        if kind == "hash":
            kind = "raw"
        at = match.end()
        if kind == "block":  # they nest
            depth = 1
            while depth and at < len(text):
                if text.startswith("/*", at):
                    depth, at = depth + 1, at + 2
                elif text.startswith("*/", at):
                    depth, at = depth - 1, at + 2
                else:
                    at += 1
        elif kind in ("word", "mark", "text", "raw"):
            found.append(piece)
        elif kind in ("char", "number", "life"):
            found.append("0")
    return found


@functools.cache
def names(text):
    """The names and the texts in `text`."""
    return {word.strip('"') for word in tokens(text) if word[0] == '"' or re.match(r"[A-Za-z_]", word)}


def ways(module, words, _):
    """`ways!(scenario: one, other)` of the interop scenarios: a test for each way."""
    scenario, names = words[0], words[2:]
    return [f"{module}{scenario}::{name}" for name in names if re.match(r"\w+$", name)]


def orders(module, words, _):
    """`orders!(one: "layer", …; other: …)` of the coordinators' scenarios: a test for each."""
    return [f"{module}{words[at]}" for at in range(len(words) - 2) if words[at + 1] == ":" and words[at + 2][0] == '"']


def suite(kind, default, arguments):
    """`conformance!(…)` and its kin of the test kit: a module, called `default` unless one argument more names it, with a test
    for each case of the list `__KIND_cases`."""

    def tests(module, words, cases):
        parts, depth = [[]], 0
        for word in words:
            depth += (word in ("(", "[", "{")) - (word in (")", "]", "}"))
            if word == "," and depth == 0:
                parts.append([])
            else:
                parts[-1].append(word)
        parts = [part for part in parts if part]
        named = len(parts) > arguments and len(parts[0]) == 1
        name = parts[0][0] if named else default
        return [f"{module}{name}::{case}" for case in cases.get(f"__{kind}_cases", [])]

    return tests


MAKERS = {
    "ways": ways,
    "orders": orders,
    "conformance": suite("interceptor", "conformance", 2),
    "sender_suite": suite("sender", "sender", 3),
    "receiver_suite": suite("receiver", "receiver", 3),
    "membership_suite": suite("membership", "membership", 4),
}


def case_lists(folder):
    """The lists of cases in `folder`: of each macro `__KIND_cases` the names, which a text and a semicolon follow."""
    found = {}
    for path in sorted(folder.rglob("*.rs")):
        words = tokens(path.read_text())
        for at in range(len(words) - 3):
            if words[at : at + 2] == ["macro_rules", "!"] and re.match(r"__\w+_cases$", words[at + 2]):
                reader = Reader(None, "", "", path, words)
                reader.at = at + 3
                body = reader.group()
                triples = zip(body, body[1:], body[2:])
                found[words[at + 2]] = [name for name, text, end in triples if text[0] == '"' and end == ";"]
    return found


class Source:
    """Every target of the workspace: its tests by nextest's names, and what it defines."""

    def __init__(self, root):
        self.root = Path(root)
        self.tests = {}  # "binary-id path::of::test" -> (file, ignored)
        self.items = {}  # name -> files
        self.members = {}  # "Type::name" -> files
        self.literals = {}  # file -> its string literals and words
        self.folders = []  # whose every file must be part of a program
        self.cases = case_lists(self.root / "testkit/src/suite")  # macro -> the cases that it lists
        workspace = tomllib.loads((self.root / "Cargo.toml").read_text())
        folders = [self.root] + [self.root / name for name in workspace["workspace"]["members"]]
        for folder in folders:
            self.package(folder)

    def package(self, folder):
        manifest = tomllib.loads((folder / "Cargo.toml").read_text())
        if "package" not in manifest:
            return
        name = manifest["package"]["name"]
        roots = [(name, folder / "src/lib.rs")]
        bins = manifest.get("bin", [{"name": name, "path": "src/main.rs"}])
        roots += [(f"{name}::bin/{entry['name']}", folder / entry.get("path", "src/main.rs")) for entry in bins]
        tests = folder / "tests"
        self.folders += [folder / "src", tests]
        if tests.is_dir():
            for path in sorted(tests.iterdir()):
                if path.suffix == ".rs":
                    roots.append((f"{name}::{path.stem}", path))
                elif (path / "main.rs").exists():
                    roots.append((f"{name}::{path.name}", path / "main.rs"))
        for binary, root in roots:
            if root.exists():
                self.file(binary, "", root, root.parent)

    def file(self, binary, module, path, folder):
        """Reads a file of modules; `folder` is where its own modules stand."""
        text = path.read_text()
        words = tokens(text)
        shown = str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
        self.literals.setdefault(shown, names(text))
        Reader(self, binary, shown, path, words).items(module, folder)

    def strays(self):
        """The files that no program has for a module: what they test is not tested."""
        files = (path.relative_to(self.root) for folder in self.folders for path in folder.rglob("*.rs"))
        return sorted(str(file) for file in files if str(file) not in self.literals)

    def item(self, name, shown):
        self.items.setdefault(name, set()).add(shown)

    def member(self, owner, name, shown):
        self.members.setdefault(f"{owner}::{name}", set()).add(shown)


class Reader:
    """Walks the tokens of one file."""

    def __init__(self, source, binary, shown, path, words):
        self.source, self.binary, self.shown, self.path = source, binary, shown, path
        self.words, self.at = words, 0

    def peek(self, ahead=0):
        at = self.at + ahead
        return self.words[at] if at < len(self.words) else ""

    def group(self):
        """The tokens of the group that opens here, without its brackets; afterwards we stand behind it."""
        depth, start = 0, self.at + 1
        while self.at < len(self.words):
            word = self.words[self.at]
            depth += (word in "([{") - (word in ")]}") if len(word) == 1 else 0
            self.at += 1
            if depth == 0:
                break
        return self.words[start : self.at - 1]

    def items(self, module, folder, owner=None, end=None):
        """Items up to the closing brace `end` (or the end of the file), inside `module`, of the type `owner`."""
        marks = []
        while self.at < len(self.words):
            word = self.peek()
            if word == "}":
                if end:
                    self.at += 1
                return
            if word == "#":
                self.at += 1 + (self.peek(1) == "!")
                marks.append(self.group())
            elif word == "mod" and re.match(r"\w+$", self.peek(1)):
                self.module(module, folder, marks)
                marks = []
            elif word == "fn":
                self.function(module, owner, marks)
                marks = []
            elif word in ("struct", "enum", "union", "trait") and re.match(r"[A-Z]\w*$", self.peek(1)):
                self.type(module, folder, word)
                marks = []
            elif word == "impl":
                self.at += 1
                self.implementation(module, folder)
                marks = []
            elif word in ("const", "static", "type") and re.match(r"[A-Za-z_]\w*$", self.peek(1)) and self.peek(1) != "fn":
                name = self.peek(1)
                self.source.member(owner, name, self.shown) if owner else self.source.item(name, self.shown)
                self.statement()
                marks = []
            elif word == "macro_rules":
                self.source.item(self.peek(2), self.shown)
                self.at += 3
                self.group()
                marks = []
            elif self.peek(1) == "!" and self.peek(2) in ("(", "{", "["):
                self.invocation(module, folder, word)
                marks = []
            elif word in ("pub", "async", "unsafe", "extern", "default"):
                self.at += 1
                if word == "pub" and self.peek() == "(":
                    self.group()
            elif word == "use":
                self.statement()
                marks = []
            elif word in "([{":
                self.group()
            else:
                self.at += 1

    def statement(self):
        while self.at < len(self.words) and self.peek() != ";":
            if self.peek() in ("(", "[", "{"):
                self.group()
            elif self.peek() == "}":
                return
            else:
                self.at += 1
        self.at += 1

    def module(self, module, folder, marks):
        name = self.peek(1)
        self.source.item(name, self.shown)
        self.at += 2
        inner = f"{module}{name}::"
        if self.peek() == "{":
            self.at += 1
            self.items(inner, folder / name, end="}")
            return
        self.at += 1
        named = [mark[2].strip('"') for mark in marks if mark[:2] == ["path", "="]]
        if named:
            path = self.path.parent / named[0]
        else:
            path = next((p for p in (folder / f"{name}.rs", folder / name / "mod.rs") if p.exists()), None)
        if path and path.exists():
            # Beside a file of another name its modules stand in a folder of that name.
            below = path.parent if path.name == "mod.rs" or named else path.parent / path.stem
            self.source.file(self.binary, inner, path.resolve() if named else path, below)

    def function(self, module, owner, marks):
        name = self.peek(1).removeprefix("r#")
        self.source.member(owner, name, self.shown) if owner else self.source.item(name, self.shown)
        while self.at < len(self.words) and self.peek() not in ("{", ";"):
            if self.peek() in ("(", "["):
                self.group()
            else:
                self.at += 1
        if self.peek() == "{":
            self.group()
        else:
            self.at += 1
        paths = ["".join(mark).split("(")[0] for mark in marks]
        if any(path == "test" or path.endswith("::test") for path in paths):
            ignored = any(path == "ignore" or path.startswith("ignore=") for path in paths)
            self.source.tests[f"{self.binary} {module}{name}"] = (self.shown, ignored)

    def type(self, module, folder, kind):
        name = self.peek(1)
        self.source.item(name, self.shown)
        self.at += 2
        while self.at < len(self.words) and self.peek() not in ("{", ";", "("):
            self.at += 1
        if self.peek() == "{" and kind == "trait":
            self.at += 1
            self.items(module, folder, owner=name, end="}")
        elif self.peek() == "{":
            self.fields(name, self.group())
        elif self.peek() == "(":
            self.statement()
        else:
            self.at += 1

    def fields(self, owner, words):
        """Fields, variants and the constants of `bitflags!`: the first name after each comma or semicolon."""
        depth, first = 0, True
        for at, word in enumerate(words):
            if word in ("(", "[", "{", "<"):
                depth += 1
            elif word in (")", "]", "}") or (word == ">" and words[at - 1] != "-"):
                depth -= 1
            elif depth == 0 and word in (",", ";"):
                first = True
            elif depth == 0 and first and word not in ("pub", "const", "#") and re.match(r"[A-Za-z_]\w*$", word):
                self.source.member(owner, word, self.shown)
                first = False

    def implementation(self, module, folder):
        head, depth = [], 0
        while self.at < len(self.words) and not (self.peek() == "{" and depth == 0):
            word = self.peek()
            arrow = word == ">" and self.words[self.at - 1] == "-"
            depth += (word == "<") - (word == ">" and not arrow)
            if depth == 0 and word != ">":
                head.append(word)
            self.at += 1
        if "for" in head:
            head = head[head.index("for") + 1 :]
        if "where" in head:
            head = head[: head.index("where")]
        names = [word for word in head if re.match(r"[A-Za-z_]\w*$", word)]
        self.at += 1
        self.items(module, folder, owner=names[-1] if names else "?", end="}")

    def invocation(self, module, folder, name):
        self.at += 2
        if name in ("proptest", "bitflags", "tokio_test"):
            self.at += 1
            self.items(module, folder, end="}")
            return
        words = self.group()
        if name in MAKERS:
            for test in MAKERS[name](module, words, self.source.cases):
                self.source.tests[f"{self.binary} {test}"] = (self.shown, False)
