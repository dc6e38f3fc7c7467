"""That the check can fail: in a copy of the sources it breaks one thing at a time, and each must be found."""

import re
import shutil
import tempfile
from pathlib import Path

from .ledger import check, rows
from .source import Source


def copy(root, to):
    """The sources, without what was built."""
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if inside.parts[0] in (".git", "target") or "vectors" in inside.parts:
            continue
        if path.suffix == ".rs" or path.name == "Cargo.toml" or inside.parent == Path("docs"):
            if path.is_file():
                (to / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to / inside)


class Scratch:
    """A copy to break."""

    def __init__(self, root):
        self.root = root
        self.before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def mend(self):
        for path, content in self.before.items():
            if path.read_bytes() != content:
                path.write_bytes(content)

    def change(self, file, old, new):
        path = self.root / file
        text = path.read_text()
        if old not in text:
            raise SystemExit(f"{file} has no {old!r}: the self-test must be adapted")
        path.write_text(text.replace(old, new, 1))

    def row(self, name, verdict):
        """The whole line of the first row whose name begins so, or else of the first with this verdict."""
        text = (self.root / "docs/parity.md").read_text()
        found = rows(text)[0]
        row = next((row for row in found if name and row.name.startswith(name) and row["verdict"] == verdict), None)
        row = row or next(row for row in found if row["verdict"] == verdict)
        return text.splitlines()[row.line - 1] + "\n"

    def faults(self):
        return set(check(self.root, Source(self.root))[0])


def breakages(scratch):
    """What is broken, how, and what the check must say."""
    change, ledger = scratch.change, "docs/parity.md"
    trap, absent, later = scratch.row("T2 ", "avoided"), scratch.row("", "absent"), scratch.row("", "not yet")

    def without_note(row):
        return re.sub(r"\| [^|]*\|\n$", "| |\n", row)

    def in_tests(old, new):
        return lambda: change("tests/all/order.rs", old, new)

    def in_ledger(old, new):
        return lambda: change(ledger, old, new)

    def rename_key():
        for path in (scratch.root / "interceptors/src/gzip").glob("*.rs"):
            path.write_text(re.sub(r"\bmin_size\b", "least_size", path.read_text()))

    test, gone = "async fn none_to_three", "there is no test 'tribes::all order::none_to_three'"
    attribute = '#[tokio::test(flavor = "multi_thread", worker_threads = 2)]\n'
    commented = "async fn other() {}\n/* #[test]\n" + test + "() {} */\nasync fn not_this"
    yield "a renamed test", in_tests(test, "async fn none_to_four"), gone
    yield "a test without its attribute", in_tests(attribute + test, test), gone
    yield "a test in a comment", in_tests(test, commented), gone
    yield "an ignored test", in_tests(test, "#[ignore]\n" + test), "is ignored"
    yield (
        "a file of tests that nobody names",
        lambda: change("tests/all/main.rs", "mod integrity;\n", ""),
        "tests/all/integrity.rs is part of no program",
    )
    yield (
        "a module left out",
        lambda: change("interceptors/src/lib.rs", "mod gzip;", "mod gzip_elsewhere;"),
        "there is no test 'tribes-interceptors gzip::",
    )
    yield (
        "a scenario without a way",
        lambda: change("interop/tests/scenarios/pieces.rs", "ways!(gzip: rust_to_java, ", "ways!(gzip: "),
        "pieces::gzip::rust_to_java",
    )
    yield (
        "a scenario of elections renamed",
        lambda: change("interop/tests/scenarios/coordinator.rs", "    three_rust: ", "    four_rust: "),
        "coordinator::three_rust'",
    )
    yield (
        "a suite left out",
        lambda: change("interceptors/tests/conformance.rs", "conformance!(order, ", "conformance!(other, "),
        "'tribes-interceptors::conformance order::concurrency'",
    )
    yield (
        "a case of the suite renamed",
        lambda: change("testkit/src/suite/interceptor/cases/mod.rs", "            concurrency \"", "            many \""),
        "'tribes-interceptors::conformance order::concurrency'",
    )
    yield (
        "a renamed property",
        lambda: change("interceptors/src/gzip/tests.rs", "fn any_body_comes_back", "fn any_other_body"),
        "gzip::tests::any_body_comes_back",
    )
    yield "a renamed type", in_ledger("`DomainFilter`", "`DomainSieve`"), "the source defines no `DomainSieve`"
    yield (
        "a renamed field",
        in_ledger("`ReceiverConfig::auto_bind`", "`ReceiverConfig::auto_binds`"),
        "perhaps `ReceiverConfig::auto_bind`",
    )
    yield "a renamed key", rename_key, "knows no key `min_size`"
    yield "a missing row", in_ledger(trap, ""), "does not list 'T2 "
    yield "a row twice", in_ledger(trap, trap + trap), "2 times"
    yield "a row for nothing", in_ledger(trap, trap + trap.replace("T2 ", "T69 ")), "which docs/parity.toml does not"
    yield "a row without a verdict", in_ledger(absent, absent.replace("| absent |", "| |")), "no verdict ''"
    yield "an absence without a reason", in_ledger(absent, without_note(absent)), "needs a note"
    yield "a delay without a reason", in_ledger(later, without_note(later)), "needs a note"
    yield "a delay with a test", in_ledger(later, later.replace("| |", "| `tribes::all order::none_to_three` |", 1)), "is not here"
    yield "a trap without a test", in_ledger(trap, re.sub(r"`tribes[^`]*`", "", trap)), "names no test"
    yield "a row that waits", in_ledger(later, later.replace("| not yet |", "| pending |")), "still pending"
    yield (
        "a new interceptor",
        lambda: change("interceptors/Cargo.toml", "\ngzip = ", "\nbrand-new = []\ngzip = "),
        "'BrandNew'",
    )


def run(root):
    """What the check did not find, and how many breakages there are."""
    missed, count = [], 0
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        copy(root, Path(folder))
        scratch = Scratch(Path(folder))
        known = scratch.faults()
        for what, damage, expected in breakages(scratch):
            damage()
            faults = scratch.faults() - known
            if not any(expected in fault for fault in faults):
                missed.append(f"{what} is not found: {sorted(faults)[:3]}")
            scratch.mend()
            count += 1
    return missed, count
