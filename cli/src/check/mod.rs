//! `tribes check`: is this configuration right, and is this machine fit for it?

mod finding;
mod keys;
mod machine;
mod parts;
mod picture;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tribes::config::{Config, ConfigError, Note};

use self::finding::Level;

/// Checks a configuration and this machine.
///
/// Without FILE, tribes.toml of the current folder if there is one, otherwise the defaults. A file whose name ends with .xml is
/// read as Tomcat's server.xml, and the TOML that it means is printed. Environment variables TRIBES__SECTION__KEY stand over
/// the file. Ends with 0 if a channel can be made and nothing speaks against starting it here; otherwise with 1.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CheckArgs {
    /// The configuration.
    file: Option<PathBuf>,
    /// Checks the configuration only, not this machine.
    #[arg(long)]
    no_self_test: bool,
    /// Lists the parts that a configuration can name, with their settings; with a name, of this part only.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with = "file")]
    parts: Option<String>,
    /// Prints the JSON schema of tribes.toml.
    #[arg(long, conflicts_with_all = ["file", "parts"])]
    schema: bool,
}

pub(crate) async fn run(args: CheckArgs) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let done = if args.schema {
        write!(out, "{}", Config::json_schema()).map(|()| true)
    } else if let Some(name) = &args.parts {
        parts::list(&mut out, name)
    } else {
        check(&mut out, &args).await
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Who reads this has gone.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tribes check: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
async fn check(out: &mut impl Write, args: &CheckArgs) -> std::io::Result<bool> {
    let default = Path::new("tribes.toml");
    let file = args.file.clone().or_else(|| default.exists().then(|| default.to_owned()));
    let name = file.as_ref().map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
    let is_xml = file.as_ref().and_then(|file| file.extension()).is_some_and(|end| end.eq_ignore_ascii_case("xml"));
    let (config, notes) = match read(file.as_deref(), is_xml) {
        Ok(read) => read,
        Err(error) => return refused(out, &error),
    };
    // Its faults stand before the picture: without them there is none.
    let channel = match config.channel() {
        Ok(channel) => channel,
        Err(error) => return refused(out, &error),
    };
    writeln!(out, "{name}: a channel can be made of it\n")?;
    if is_xml {
        writeln!(out, "{}", config.to_toml())?;
        notes_on(out, &notes)?;
    }
    picture::draw(out, &config)?;
    let mut findings = keys::check(&config, file.as_deref());
    if !args.no_self_test {
        findings.extend(machine::check(&config, &channel).await);
    }
    if !findings.is_empty() {
        writeln!(out, "\nthis machine")?;
        findings.iter().try_for_each(|finding| writeln!(out, "  {finding}"))?;
    }
    let faults = findings.iter().filter(|finding| finding.level == Level::Fault).count();
    let warnings = findings.iter().filter(|finding| finding.level == Level::Warning).count();
    writeln!(out, "\n{faults} faults, {warnings} warnings")?;
    Ok(faults == 0)
}

fn read(file: Option<&Path>, is_xml: bool) -> Result<(Config, Vec<Note>), ConfigError> {
    match file {
        Some(file) if is_xml => Config::read_server_xml(file),
        Some(file) => Config::read(file).map(|config| (config, Vec::new())),
        None => {
            // Others' variables may be no text.
            let text = |(name, value): (OsString, OsString)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            };
            Config::default().with_env(std::env::vars_os().filter_map(text)).map(|config| (config, Vec::new()))
        }
    }
}

fn refused(out: &mut impl Write, error: &ConfigError) -> std::io::Result<bool> {
    writeln!(out, "{error}").map(|()| false)
}

fn notes_on(out: &mut impl Write, notes: &[Note]) -> std::io::Result<()> {
    for (matters, heading) in [(true, "without an equivalent"), (false, "not needed here")] {
        let mut of_this_sort = notes.iter().filter(|note| note.matters == matters).peekable();
        if of_this_sort.peek().is_some() {
            writeln!(out, "{heading}")?;
            of_this_sort.try_for_each(|note| writeln!(out, "  {note}"))?;
            writeln!(out)?;
        }
    }
    Ok(())
}
