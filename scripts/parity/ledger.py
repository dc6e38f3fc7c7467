"""docs/parity.md as data, and what must hold of it."""

import difflib
import re
import tomllib
from collections import Counter

# Verdict -> what its row must have: a reference in "ours", a test in "shown by", a note.
VERDICTS = {
    "same": ("ours", "test"),
    "differs": ("ours", "test", "note"),
    "avoided": ("test",),
    "partly": ("test", "note"),
    "absent": ("note", "nothing"),
    "n/a": ("note", "nothing"),
    "not yet": ("note", "nothing"),
    "pending": ("note", "nothing"),
}
COLUMNS = {
    ("Tribes", "verdict", "ours", "shown by", "notes"),
    ("Tribes", "verdict", "shown by", "notes"),
    ("ours", "shown by"),
    ("verdict", "means"),
}
SPAN = re.compile(r"`([^`]+)`")
KEY = re.compile(r"([a-z][a-z0-9-]*)\.([a-z][a-z0-9_]*)$")
ITEM = re.compile(r"[A-Za-z_]\w*(::[A-Za-z_]\w*)?$")
# Shorter is no reason.
REASON = 8


class Row:
    def __init__(self, section, line, cells):
        self.section, self.line, self.cells = section, line, cells

    def __getitem__(self, column):
        return self.cells.get(column, "")

    @property
    def name(self):
        """What is listed: the words of the first column without its quoting."""
        return self["Tribes"].replace("`", "") or self["ours"].replace("`", "")


def rows(text):
    """Every row of every table with a known head, and what is wrong with tables."""
    found, faults, section, head = [], [], "", None
    for line, content in enumerate(text.splitlines(), 1):
        if content.startswith("#"):
            section, head = content.lstrip("# ").strip(), None
        elif not content.startswith("|"):
            head = None
        else:
            cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", content.strip())[1:-1])
            if head is None:
                head = cells
                if head not in COLUMNS:
                    faults.append(f"line {line}: unknown columns {head}")
            elif set("".join(cells)) <= set("-: "):
                continue
            elif len(cells) != len(head):
                faults.append(f"line {line}: {len(cells)} cells instead of {len(head)}: {content[:80]}")
            elif head != ("verdict", "means"):
                found.append(Row(section, line, dict(zip(head, cells))))
    return found, faults


def check_row(row, source, features, pending_too):
    """What is wrong with one row."""
    verdict = row["verdict"] if "verdict" in row.cells else None
    if verdict is not None and verdict not in VERDICTS:
        yield f"no verdict {verdict!r}: one of {', '.join(VERDICTS)}"
        return
    if verdict == "pending" and not pending_too:
        yield "still pending: complete it, or say `not yet` and why"
    needs = VERDICTS.get(verdict, ("ours", "test"))
    if "note" in needs and len(row["notes"]) < REASON:
        yield f"`{verdict}` needs a note that says why or how"
    if "ours" in needs and "ours" in row.cells and not SPAN.search(row["ours"]):
        yield f"`{verdict}` needs a name in the column `ours`"
    yield from check_tests(row, needs, source)
    for reference in SPAN.findall(row["ours"]):
        yield from check_reference(reference, source, features)


def check_tests(row, needs, source):
    shown = row["shown by"]
    names = SPAN.findall(shown)
    if "nothing" in needs:
        if names or row["ours"]:
            yield "names types or tests although it is not here"
        return
    if not names:
        excused = shown.startswith("none: ") and len(shown) > len("none: ") + REASON and "ours" in row.cells
        if not excused:
            yield "names no test (`none: REASON` where none can be)"
    elif SPAN.sub("", shown).strip():
        yield f"`shown by` has more than tests: {shown[:80]}"
    for name in names:
        if name not in source.tests:
            near = difflib.get_close_matches(name, source.tests, 1)
            yield f"there is no test {name!r}" + (f"; perhaps {near[0]!r}" if near else "")
        elif source.tests[name][1] and "opt-in" not in row["notes"]:
            yield f"the test {name!r} is ignored; say `opt-in` in the note if that is meant"


def check_reference(reference, source, features):
    key = KEY.match(reference)
    if key and key[1] in features:
        folder = f"interceptors/src/{key[1].replace('-', '_')}/"
        files = [file for file in source.literals if file.startswith(folder) and "/test" not in file]
        if not any(key[2] in source.literals[file] for file in files):
            yield f"{folder} knows no key `{key[2]}`"
    elif key:
        yield f"there is no interceptor `{key[1]}` (features of interceptors/Cargo.toml)"
    elif not ITEM.match(reference):
        yield f"`{reference}` is neither a type or function nor a key"
    elif "::" in reference and reference not in source.members:
        near = difflib.get_close_matches(reference, source.members, 1)
        yield f"the source defines no `{reference}`" + (f"; perhaps `{near[0]}`" if near else "")
    elif "::" not in reference and reference not in source.items:
        yield f"the source defines no `{reference}`"


def check(root, source, pending_too=False):
    """Everything that is wrong with the ledger at `root`, and how many rows have each verdict."""
    text = (root / "docs/parity.md").read_text()
    wanted = tomllib.loads((root / "docs/parity.toml").read_text())["sections"]
    manifest = tomllib.loads((root / "interceptors/Cargo.toml").read_text())
    features = {name for name in manifest["features"] if not name.startswith("_")} - {"default", "full"}
    # `compress-lz4` is a part of `compress`, no interceptor of its own.
    features -= {name for name in features for whole in manifest["features"][name] if name.startswith(f"{whole}-")}
    found, faults = rows(text)
    for row in found:
        for fault in check_row(row, source, features, pending_too):
            faults.append(f"line {row.line}, {row.name}: {fault}")
    listed = {}
    for row in found:
        if "Tribes" in row.cells:
            listed.setdefault(row.section, Counter())[row.name] += 1
    for section in sorted(wanted.keys() | listed.keys()):
        expected, there = Counter(wanted.get(section, [])), listed.get(section, Counter())
        if section not in wanted:
            faults.append(f"docs/parity.toml has no section {section!r}")
            continue
        faults += [f"section {section!r} does not list {name!r}" for name in expected if not there[name]]
        strange = [name for name in there if not expected[name]]
        faults += [f"section {section!r} lists {name!r}, which docs/parity.toml does not have" for name in strange]
        faults += [f"section {section!r} lists {name!r} {count} times" for name, count in there.items() if count > 1]
        faults += [f"docs/parity.toml has {name!r} {count} times" for name, count in expected.items() if count > 1]
    faults += [f"{file} is part of no program: no `mod` names it" for file in source.strays()]
    # Each interceptor of this project is somewhere in the ledger.
    named = {reference for row in found for reference in SPAN.findall(row["ours"])}
    for feature in sorted(features):
        name = "".join(word.capitalize() for word in feature.split("-"))
        if name not in named and not any(f"`{name}`" in row["notes"] for row in found if row["verdict"] == "pending"):
            faults.append(f"the interceptor {name!r} (feature {feature!r}) is not in the ledger")
    return faults, Counter(row["verdict"] for row in found if "verdict" in row.cells)


def compare(root, reference):
    """What the catalogue of Tribes' tests and the list of its faults have that docs/parity.toml has not, and the reverse."""
    sections = tomllib.loads((root / "docs/parity.toml").read_text())["sections"]
    catalogue = (reference / "tribes-test-catalogue.md").read_text()
    behaviour = (reference / "tribes-behaviour.md").read_text()
    first, third = catalogue.split("\n## 3.")[0], catalogue.split("\n## 3.")[1]
    traps = behaviour.split("\n### 17.1")[1].split("\n### ")[0]
    tests = set(re.findall(r"^\| ([\w.]+#\w+)", first, re.M))
    untested = {f"U{number}" for number in re.findall(r"^(\d+)\. ", third, re.M)}
    faulty = {f"T{number}" for number in re.findall(r"^\| (\d+) \|", traps, re.M)}
    pairs = [
        ("tests", tests, set(sections["Asserting tests"])),
        ("untested", untested, {name.split()[0] for name in sections["What Tribes does not test"]}),
        ("traps", faulty, {name.split()[0] for name in sections["Traps"]}),
    ]
    faults = []
    for what, theirs, ours in pairs:
        if not theirs:
            faults.append(f"found no {what} in {reference}: its form has changed")
        faults += [f"docs/parity.toml lacks {name} ({what})" for name in sorted(theirs - ours)]
        faults += [f"docs/parity.toml has {name}, which the catalogue has not ({what})" for name in sorted(ours - theirs)]
    # Whatever stands in the first column of a table of attributes is listed under some name.
    known = set(re.findall(r"\w+", " ".join(name for names in sections.values() for name in names)))
    for table in re.findall(r"^\| attribute \|[^\n]*\n\|[-| ]+\n((?:\|[^\n]*\n)+)", behaviour, re.M):
        for line in table.splitlines():
            first = line.split("|")[1]
            for word in re.findall(r"\b[a-z]+(?:[A-Z]\w*)?\b", re.sub(r"\(.*?\)|\*\*.*?\*\*", "", first)):
                if word not in known | {"true", "false", "manual", "says", "s"}:
                    faults.append(f"no section of docs/parity.toml has the attribute {word!r} ({first.strip()})")
    return faults
