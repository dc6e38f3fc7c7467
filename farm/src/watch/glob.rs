//! Which files of the folder are artefacts.

/// Whether a name is one of `pattern`, in which `*` stands for any text and `?` for any character. A pattern without a slash is
/// about the last part of the name; in one with a slash, `*` and `?` stand for no slash, and `**` for anything.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let name = if pattern.contains('/') { name } else { name.rsplit('/').next().unwrap_or(name) };
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Row by row: which beginnings of the name the pattern's beginning stands for. No pattern takes long.
    let mut reached = vec![false; name.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    let mut rest = pattern.as_slice();
    while let [first, others @ ..] = rest {
        let deep = *first == '*' && others.first() == Some(&'*');
        rest = if deep { others.get(1..).unwrap_or_default() } else { others };
        let mut next = vec![false; name.len() + 1];
        let mut runs = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or_default();
            let before = at.checked_sub(1).and_then(|before| Some((reached.get(before).copied()?, *name.get(before)?)));
            *slot = match (first, before) {
                ('*', before) => {
                    let goes_on = before.is_none_or(|(_, c)| deep || c != '/');
                    runs = here || runs && goes_on;
                    runs
                }
                ('?', Some((true, c))) => c != '/',
                (wanted, Some((true, c))) => c == *wanted,
                _ => false,
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in [
            ("*", "a"),
            ("*", "dir/a.json"),
            ("*.wasm", "x.wasm"),
            ("*.wasm", "plugins/x.wasm"),
            ("rules-?.json", "rules-1.json"),
            ("rules/*.json", "rules/a.json"),
            ("**/*.json", "a/b/c.json"),
            ("rules/**", "rules/a/b"),
            ("a*b*c", "a1b2b3c"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.wasm", "x.wasm.tmp"),
            ("*.wasm", "wasm"),
            ("rules-?.json", "rules-.json"),
            ("rules/*.json", "rules/a/b.json"),
            ("rules/*.json", "a.json"),
            ("", "a"),
            ("a*b", "ac"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
    }
}
