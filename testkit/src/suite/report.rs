//! What a suite found.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Seeds;

/// The folder that reports are written to.
const REPORT: &str = "TRIBES_REPORT";

/// What a suite found, case by case. Its text is short; [`to_json`](Self::to_json) has the same as data.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "call `assert_passed`"]
pub struct SuiteReport {
    /// The suite: `interceptor`, `sender`, `receiver` or `membership`.
    pub suite: &'static str,
    /// What was tested.
    pub subject: String,
    /// What the part does on purpose, so that it is not held against it.
    pub declared: Vec<&'static str>,
    /// The seeds that each case ran under, up to the first that failed.
    pub seeds: Seeds,
    /// Each case, in the order in which they ran.
    pub cases: Vec<CaseReport>,
}

/// One case of a suite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CaseReport {
    /// The case's name.
    pub name: &'static str,
    /// What it demands.
    pub demand: &'static str,
    /// What was wrong, if anything was.
    pub failure: Option<CaseFailure>,
    /// How long it took, by the clock on the wall.
    pub took: Duration,
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaseFailure {
    /// The first seed under which it did.
    pub seed: u64,
    /// What was wrong.
    pub text: String,
}

impl CaseFailure {
    pub(super) const fn new(seed: u64, text: String) -> Self {
        Self { seed, text }
    }
}

impl SuiteReport {
    /// Whether no case failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.failure.is_none())
    }

    /// The names of the cases that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.cases.iter().filter(|case| case.failure.is_some()).map(|case| case.name).collect()
    }

    /// Panics with the whole report if a case failed.
    ///
    /// # Panics
    /// So.
    #[track_caller]
    pub fn assert_passed(&self) {
        if !self.passed() {
            panic!("{self}");
        }
    }

    /// The report as JSON: `suite`, `subject`, `declared`, `seeds` and `cases`, each with `name`, `demand`, `passed`,
    /// `seconds`, and if it failed `seed` and `failure`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let cases: Vec<Value> = self.cases.iter().map(CaseReport::json).collect();
        let whole = json!({
            "suite": self.suite,
            "subject": self.subject,
            "declared": self.declared,
            "seeds": self.seeds.count(),
            "passed": self.passed(),
            "cases": cases,
        });
        format!("{whole:#}")
    }

    /// Writes the report as JSON into the folder that the environment variable `TRIBES_REPORT` names, and makes the folder
    /// if there is none; without the variable does nothing. The file is called after `name`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str) {
        let Some(folder) = std::env::var_os(REPORT).filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
            return;
        };
        if let Err(error) = self.write_to(&folder, name) {
            panic!("the report cannot be written to {}: {error}", folder.display());
        }
    }

    pub(super) fn write_to(&self, folder: &Path, name: &str) -> std::io::Result<()> {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '.' };
        let name: String = name.replace("::", ".").chars().map(safe).collect();
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(name + ".json"), self.to_json() + "\n")
    }
}

impl CaseReport {
    fn json(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "demand": self.demand,
            "passed": self.failure.is_none(),
            "seconds": self.took.as_secs_f64(),
        });
        if let (Some(failure), Some(value)) = (&self.failure, value.as_object_mut()) {
            value.insert("seed".to_owned(), failure.seed.into());
            value.insert("failure".to_owned(), failure.text.clone().into());
        }
        value
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, all) = (self.failed().len(), self.cases.len());
        write!(f, "{} {}: ", self.suite, self.subject)?;
        match failed {
            0 => write!(f, "{all} of {all} cases passed")?,
            _ => write!(f, "{failed} of {all} cases FAILED")?,
        }
        write!(f, " ({}", self.seeds)?;
        if !self.declared.is_empty() {
            write!(f, "; declared: {}", self.declared.join(", "))?;
        }
        f.write_str(")")?;
        for CaseReport { name, demand, failure, took } in &self.cases {
            match failure {
                Some(CaseFailure { seed, text }) => {
                    write!(f, "\n  FAILED {name} (seed {seed}): {demand}\n         {text}")?;
                }
                None => write!(f, "\n  ok     {name} ({:.2} s)", took.as_secs_f64())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_text_and_as_json() {
        let case =
            |name, failure| CaseReport { name, demand: "all is well", failure, took: Duration::from_millis(1500) };
        let report = SuiteReport {
            suite: "interceptor",
            subject: "gzip".to_owned(),
            declared: vec!["drops"],
            seeds: Seeds::first(200),
            cases: vec![case("one", None), case("two", Some(CaseFailure::new(7, "a \"word\"".to_owned())))],
        };
        let text = report.to_string();
        assert!(text.starts_with("interceptor gzip: 1 of 2 cases FAILED (200 seeds; declared: drops)"), "{text}");
        assert!(text.contains("FAILED two (seed 7): all is well"), "{text}");
        let value: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(value["cases"][1]["seed"], 7);
        assert_eq!(value["cases"][1]["failure"], "a \"word\"");
        assert_eq!((&value["passed"], &value["cases"][0]["passed"]), (&Value::from(false), &Value::from(true)));
        let folder = std::env::temp_dir().join(format!("tribes-report-{}", std::process::id()));
        report.write_to(&folder, "gzip::one/two").unwrap();
        let written = std::fs::read_to_string(folder.join("gzip.one.two.json")).unwrap();
        assert_eq!(written, report.to_json() + "\n");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
