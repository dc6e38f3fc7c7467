//! `tribes farm`: files that all members of a group have.

mod args;
mod operate;
mod progress;
mod watch;

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use args::FarmCommand;
use args::{GroupArgs, What};
use tribes::farm::{Farm, FarmBuilder, SigningKey, Trust};
use tribes::membership::StaticConfig;
use tribes::{BoxError, Channel};

use crate::names::{own_name, print};
use crate::units::{hex, parse_hex, with_causes};

/// Does what is asked for.
pub(crate) async fn run(command: FarmCommand) -> ExitCode {
    let done = match command.what {
        What::Watch(args) => watch::watch(*args).await.map(|()| true),
        What::Publish(args) => operate::publish(args).await,
        What::Rollback(args) => operate::rollback(args).await,
        What::Status(args) => operate::status(args).await,
        What::Key(args) => key(&args.file).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error what went wrong.
fn complain(error: &(dyn Error + 'static)) {
    // Nobody reads it: the exit code says so, too.
    let _ = writeln!(io::stderr(), "tribes farm: {}", with_causes(error));
}

fn channel(args: &GroupArgs, name: &str) -> Result<Channel, BoxError> {
    if let Some(file) = &args.config {
        return Ok(Channel::from_config(file)?);
    }
    let builder = tribes::channel().bind(args.bind.resolve()?).payload(name.to_owned());
    let builder = if args.peer.is_empty() {
        builder.multicast(args.mcast)
    } else {
        builder.peers_config(StaticConfig::default().with_peers(args.peer.clone()))
    };
    Ok(builder.build()?)
}

fn trust(args: &GroupArgs) -> Result<Trust, BoxError> {
    if args.trust_cluster {
        return Ok(Trust::Cluster);
    }
    let trust = Trust::ed25519(args.trust_key.iter().copied());
    Ok(match &args.sign_with {
        Some(file) => trust.signing_with(read_key(file)?),
        None => trust,
    })
}

/// What is in the file is shown nowhere.
fn read_key(file: &Path) -> Result<SigningKey, BoxError> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let seed = parse_hex(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let seed = seed.ok_or_else(|| format!("{} does not hold 64 hexadecimal digits", file.display()))?;
    Ok(SigningKey::from_seed(seed))
}

/// Shows the public key of the key in the file, which is made if there is none.
fn key(file: &Path) -> Result<(), BoxError> {
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(mut made) => {
            let env = tribes::Env::real();
            let seed = [env.unique()?, env.unique()?].concat();
            writeln!(made, "{}", hex(&seed))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("cannot make {}: {error}", file.display()).into()),
    }
    print(read_key(file)?.public());
    Ok(())
}

/// A farm as all subcommands have it.
fn builder(channel: &Channel, args: &GroupArgs, staging: impl Into<PathBuf>) -> Result<FarmBuilder, BoxError> {
    Ok(Farm::builder(channel, &args.farm).staging(staging).trust(trust(args)?))
}

fn own(args: &GroupArgs) -> String {
    own_name(args.member.clone())
}
