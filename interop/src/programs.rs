//! The two programs: finds them, and builds what is not there yet.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::SystemTime;

use crate::Failure;
use crate::spec::Impl;

const SOURCE: &str = include_str!("../java/Peer.java");
const JARS: &str = "/usr/share/java";

/// Small and quick to start: these processes live for seconds.
const JVM: [&str; 4] = [
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.util.logging.SimpleFormatter.format=%1$tT.%1$tL %4$s %2$s: %5$s%6$s%n",
];

/// The first of Java's two compilers alone costs least. Only the second one uses the processor's instructions for ciphers: five
/// megabytes under GCM take 0.4 s without it, 0.2 s with it.
const QUICK_COMPILER: &str = "-XX:TieredStopAtLevel=1";

/// The command that starts a node with these options.
pub(crate) fn command(implementation: Impl, args: &[String]) -> Result<Command, Failure> {
    let mut command = match implementation {
        Impl::Java => java(args.iter().any(|arg| arg.starts_with("encrypt")))?,
        Impl::Rust => {
            let mut command = Command::new(tribes()?);
            command.arg("node").env("RUST_BACKTRACE", "1");
            command
        }
    };
    command.args(args);
    Ok(command)
}

/// A folder that outlives this process and is shared with the other tests: the build's own, if we run from one.
pub(crate) fn work_dir() -> Result<PathBuf, Failure> {
    let parent = profile_dir().unwrap_or_else(env::temp_dir);
    let dir = parent.join("tribes-interop");
    fs::create_dir_all(&dir).map_err(Failure::doing(format_args!("creating {}", dir.display())))?;
    Ok(dir)
}

/// Takes `name` in the work folder: for oneself, or shared with others that share it. Dropping the file lets it go.
pub(crate) fn lock(name: &str, shared: bool) -> Result<File, Failure> {
    let path = work_dir()?.join(name);
    let file = File::create(&path).map_err(Failure::doing(format_args!("creating {}", path.display())))?;
    let locked = if shared { file.lock_shared() } else { file.lock() };
    locked.map_err(Failure::doing(format_args!("locking {}", path.display())))?;
    Ok(file)
}

/// `target/debug` when the test is `target/debug/deps/scenarios-…`.
fn profile_dir() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let deps = program.parent()?;
    (deps.file_name()? == "deps").then(|| deps.parent().map(Path::to_owned))?
}

// ---------------------------------------------------------------- Java

fn java(ciphers: bool) -> Result<Command, Failure> {
    let jars = class_path()?;
    let classes = compiled(&jars)?;
    let mut path = classes.into_os_string();
    path.push(":");
    path.push(&jars);
    let mut command = Command::new("java");
    command.args(JVM).args((!ciphers).then_some(QUICK_COMPILER)).arg("-cp").arg(path).arg("Peer");
    Ok(command)
}

fn class_path() -> Result<OsString, Failure> {
    if let Some(path) = env::var_os("TRIBES_JAVA_CLASSPATH") {
        return Ok(path);
    }
    let jars = ["tomcat10-tribes.jar", "tomcat10-juli.jar"].map(|name| Path::new(JARS).join(name));
    if let Some(missing) = jars.iter().find(|jar| !jar.exists()) {
        return Err(Failure::new(format!(
            "Apache Tribes is not installed: there is no {}. Install the Debian package libtomcat10-java (and a JDK, \
             default-jdk-headless), or point TRIBES_JAVA_CLASSPATH to the jars, or set TRIBES_INTEROP=skip to go without \
             these tests",
            missing.display()
        )));
    }
    env::join_paths(jars).map_err(Failure::doing("joining the class path"))
}

/// Compiles the peer, once for each state of its source and class path; tests that run side by side wait for the first.
fn compiled(class_path: &OsString) -> Result<PathBuf, Failure> {
    let mut hasher = DefaultHasher::new();
    (SOURCE, class_path).hash(&mut hasher);
    let work = work_dir()?;
    let classes = work.join(format!("peer-{:016x}", hasher.finish()));
    let _one_compiles = lock("javac.lock", false)?;
    if classes.exists() {
        return Ok(classes);
    }
    let scratch = work.join(format!("javac-{}", process::id()));
    fs::create_dir_all(&scratch).map_err(Failure::doing("creating a folder for javac"))?;
    let source = scratch.join("Peer.java");
    fs::write(&source, SOURCE).map_err(Failure::doing("writing Peer.java"))?;
    let output = Command::new("javac")
        .arg("-d")
        .arg(&scratch)
        .arg("-cp")
        .arg(class_path)
        .arg(&source)
        .output()
        .map_err(Failure::doing("starting javac (Debian package default-jdk-headless)"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("javac: {}", String::from_utf8_lossy(&output.stderr))));
    }
    // Only a complete folder ever has the final name, even if we are killed half-way.
    fs::rename(&scratch, &classes).map_err(Failure::doing("moving the classes to their place"))?;
    Ok(classes)
}

// ---------------------------------------------------------------- Rust

/// The `tribes` program: `TRIBES_BIN`, else the one next to this test, built anew when a source is younger.
fn tribes() -> Result<PathBuf, Failure> {
    if let Some(path) = env::var_os("TRIBES_BIN") {
        return Ok(path.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| Failure::new("the package has no parent folder"))?;
    let profile = profile_dir().unwrap_or_else(|| workspace.join("target/debug"));
    let program = profile.join("tribes");
    let _one_builds = lock("cargo.lock", false)?;
    // Cargo leaves a program alone that would come out the same, so the time we last asked counts as well.
    let asked = work_dir()?.join("cargo.asked");
    let fresh = written(&program).map(|when| written(&asked).map_or(when, |asked| asked.max(when)));
    if fresh.is_some_and(|when| youngest_source(workspace).is_none_or(|source| source <= when)) {
        return Ok(program);
    }
    let now = SystemTime::now();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "tribes-cli"]).current_dir(workspace);
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().map_err(Failure::doing("starting cargo"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("building tribes-cli: {}", String::from_utf8_lossy(&output.stderr))));
    }
    File::create(&asked)
        .and_then(|file| file.set_modified(now))
        .map_err(Failure::doing(format_args!("dating {}", asked.display())))?;
    Ok(program)
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When a source of the program was last written: manifests and Rust files of the workspace, this package aside.
fn youngest_source(workspace: &Path) -> Option<SystemTime> {
    fn visit(folder: &Path, youngest: &mut Option<SystemTime>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "interop", "tests", "benches", "examples"].contains(&&*name) {
                    visit(&path, youngest);
                }
            } else if name.ends_with(".rs") || name == "Cargo.toml" {
                *youngest = (*youngest).max(written(&path));
            }
        }
    }
    let mut youngest = None;
    visit(workspace, &mut youngest);
    youngest
}
