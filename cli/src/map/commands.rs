//! The commands on standard input, one a line.

pub(super) const HELP: &str = "put KEY VALUE, get KEY, remove KEY, list [PREFIX], who [KEY], stats, help, quit";

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Put { key: String, value: String },
    Get { key: String },
    Remove { key: String },
    List { prefix: String },
    Who { key: Option<String> },
    Stats,
    Help,
    Quit,
}

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("unknown command {0:?}; there are {HELP}")]
    Unknown(String),
    #[error("{command} takes {wanted}")]
    Wrong { command: &'static str, wanted: &'static str },
}

impl Command {
    /// Reads a line; `None` for an empty one.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, CommandError> {
        let (command, rest) = split(line);
        let one_key = |command| one_word(rest).ok_or(CommandError::Wrong { command, wanted: "one key" });
        let alone = |command, parsed| match rest {
            "" => Ok(parsed),
            _ => Err(CommandError::Wrong { command, wanted: "nothing behind it" }),
        };
        let parsed = match command {
            "" => return Ok(None),
            "put" => match split(rest) {
                (_, "") => return Err(CommandError::Wrong { command: "put", wanted: "a key and a value" }),
                (key, value) => Self::Put { key: key.to_owned(), value: value.to_owned() },
            },
            "get" => Self::Get { key: one_key("get")? },
            "remove" => Self::Remove { key: one_key("remove")? },
            "list" if rest.is_empty() => Self::List { prefix: String::new() },
            "list" => {
                let wrong = CommandError::Wrong { command: "list", wanted: "one prefix at most" };
                Self::List { prefix: one_word(rest).ok_or(wrong)? }
            }
            "who" if rest.is_empty() => Self::Who { key: None },
            "who" => {
                let wrong = CommandError::Wrong { command: "who", wanted: "one key at most" };
                Self::Who { key: Some(one_word(rest).ok_or(wrong)?) }
            }
            "stats" => alone("stats", Self::Stats)?,
            "help" => alone("help", Self::Help)?,
            "quit" => alone("quit", Self::Quit)?,
            word => return Err(CommandError::Unknown(word.to_owned())),
        };
        Ok(Some(parsed))
    }
}

/// The first word, and what is behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

fn one_word(text: &str) -> Option<String> {
    let is_one = !text.is_empty() && !text.contains(char::is_whitespace);
    is_one.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        Command::parse(line).unwrap().unwrap()
    }

    #[test]
    fn commands_are_read() {
        let key = || "a".to_owned();
        assert_eq!(parsed("put a  two words "), Command::Put { key: key(), value: "two words".to_owned() });
        assert_eq!(parsed(" get a"), Command::Get { key: key() });
        assert_eq!(parsed("remove\ta"), Command::Remove { key: key() });
        assert_eq!(parsed("list"), Command::List { prefix: String::new() });
        assert_eq!(parsed("list a"), Command::List { prefix: key() });
        assert_eq!(parsed("who"), Command::Who { key: None });
        assert_eq!(parsed("who a"), Command::Who { key: Some(key()) });
        assert_eq!(parsed("stats"), Command::Stats);
        assert_eq!(parsed("help"), Command::Help);
        assert_eq!(parsed("quit "), Command::Quit);
        assert_eq!(Command::parse("  "), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("dance", "dance"),
            ("Put a b", "Put"),
            ("put", "a key and a value"),
            ("put a", "a key and a value"),
            ("get", "one key"),
            ("get a b", "one key"),
            ("remove", "one key"),
            ("list a b", "one prefix"),
            ("who a b", "one key"),
            ("quit now", "nothing"),
        ] {
            let error = Command::parse(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
