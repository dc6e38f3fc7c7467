#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use std::os::unix::fs::symlink;

use super::*;
use crate::limits::Limits;
use crate::name::ArtefactName;
use crate::transfer::{Fault, Opened};

const LIMITS: Limits = Limits { file: 1 << 20, total: 1 << 30, artefacts: 10, chunk: 1024, parallel_peers: 1 };

fn disk(folder: &Path) -> Disk {
    Disk::open(folder.join("staging"), Some(folder.join("live")), 0o600).unwrap()
}

fn name(text: &str) -> ArtefactName {
    text.parse().unwrap()
}

fn import(disk: &Disk, bytes: &[u8]) -> Content {
    disk.import_from(&mut &*bytes, bytes.len() as u64, &LIMITS, Algorithm::Sha256).unwrap()
}

/// A content that another member has, and its chunks.
fn elsewhere(size: usize) -> (Content, Vec<Digest>, Vec<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let other = disk(folder.path());
    let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let content = import(&other, &bytes);
    let chunk = |index| other.read_chunk(&content, index, &[]).unwrap().unwrap();
    let list = other.list(&content).unwrap().unwrap();
    (content, list, (0..content.chunks()).map(chunk).collect())
}

#[test]
fn an_imported_file_is_read_back_in_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    for size in [0, 1, 1023, 1024, 1025, 2048] {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let file = folder.path().join("file");
        fs::write(&file, &bytes).unwrap();
        let content = disk.import(&file, true, &LIMITS, Algorithm::Sha256).unwrap();
        assert_eq!((content.size, content.hash), (size as u64, Algorithm::Sha256.digest(&bytes)));
        let chunks = (0..content.chunks()).map(|index| disk.read_chunk(&content, index, &[]).unwrap().unwrap());
        assert_eq!(chunks.collect::<Vec<_>>().concat(), bytes);
        assert_eq!(disk.read_chunk(&content, content.chunks(), &[]).unwrap(), None);
        assert!(content.is_list(&disk.list(&content).unwrap().unwrap()), "{size}");
        // By somebody else, in other chunks.
        let other = Content { chunk: 512, ..content };
        assert_eq!(disk.list(&other).unwrap().is_some(), other.own_list().is_some_and(|list| other.is_list(&list)));
    }
}

#[test]
fn only_a_plain_file_of_a_size_that_is_taken_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let import = |path: &Path| disk.import(path, false, &LIMITS, Algorithm::Sha256);
    fs::write(folder.path().join("file"), b"x").unwrap();
    symlink(folder.path().join("file"), folder.path().join("link")).unwrap();
    assert!(matches!(import(&folder.path().join("link")), Err(ImportError::NoFile)));
    assert!(matches!(import(folder.path()), Err(ImportError::NoFile)));
    // Nobody ever writes into it.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(import(&pipe), Err(ImportError::NoFile)));
    assert!(matches!(import(&folder.path().join("none")), Err(ImportError::Io(_))));
    File::create(folder.path().join("large")).unwrap().set_len((1 << 20) + 1).unwrap();
    assert!(matches!(import(&folder.path().join("large")), Err(ImportError::TooLarge { .. })));
    // It grows or shrinks while it is read.
    for (size, bytes) in [(3, &b"xxxx"[..]), (5, b"xxxx")] {
        let result = disk.import_from(&mut &*bytes, size, &LIMITS, Algorithm::Sha256);
        assert!(matches!(result, Err(ImportError::Changed)));
    }
    assert_eq!(fs::read_dir(folder.path().join("staging/tmp")).unwrap().count(), 0, "nothing is left behind");
}

/// Row 24: what is corrupt is not kept, and the whole gets its name only when it is right.
#[test]
fn chunks_are_kept_if_they_are_right_and_make_an_object() {
    let (content, list, chunks) = elsewhere(2500);
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    assert_eq!(disk.look(&content).unwrap(), Opened::Nothing);
    let mut wrong = list.clone();
    wrong.swap(0, 1);
    assert_eq!(disk.take_list(&content, &wrong), Err(Fault::Corrupt));
    assert_eq!(disk.take_list(&content, &list[1..]), Err(Fault::Corrupt));
    assert!(matches!(disk.take_chunk(&content, 0, &list[0], &chunks[0]), Err(Fault::Disk(_))), "nothing is begun");
    disk.take_list(&content, &list).unwrap();
    let mut corrupt = chunks[1].clone();
    corrupt[7] ^= 1;
    for (index, bytes) in [(1, &corrupt), (0, &chunks[1]), (2, &chunks[0]), (3, &chunks[0]), (u32::MAX, &vec![])] {
        let expected = list.get(index as usize).unwrap_or(&list[0]);
        assert_eq!(disk.take_chunk(&content, index, expected, bytes), Err(Fault::Corrupt), "{index}");
    }
    assert_eq!(disk.finish(&content), Err(Fault::Corrupt), "it is not whole");
    assert!(!disk.has_object(&content).unwrap());
    disk.take_list(&content, &list).unwrap();
    for (index, bytes) in (0..).zip(&chunks) {
        assert_eq!(disk.read_chunk(&content, index, &[]).unwrap(), None);
        disk.take_chunk(&content, index, &list[index as usize], bytes).unwrap();
        assert_eq!(disk.read_chunk(&content, index, &[9]).unwrap().unwrap()[1..], bytes[..], "it helps others already");
    }
    disk.finish(&content).unwrap();
    assert_eq!(fs::read(disk.object(&content.hash)).unwrap(), chunks.concat());
    assert_eq!(disk.look(&content).unwrap(), Opened::Whole);
}

#[test]
fn a_later_process_finds_the_chunks_that_are_right() {
    let (content, list, chunks) = elsewhere(4 * 1024);
    let folder = tempfile::tempdir().unwrap();
    let path = {
        let disk = disk(folder.path());
        disk.take_list(&content, &list).unwrap();
        disk.take_chunk(&content, 1, &list[1], &chunks[1]).unwrap();
        disk.take_chunk(&content, 3, &list[3], &chunks[3]).unwrap();
        assert!(Disk::open(folder.path().join("staging"), None, 0o600).is_err(), "one process at a time");
        folder.path().join("staging/partial").join(format!("{}-{}", content.hash, content.chunk))
    };
    // A write that got half way.
    let mut file = File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(3 * 1024 + 5)).unwrap();
    file.write_all(b"torn").unwrap();
    let disk = disk(folder.path());
    assert_eq!(disk.look(&content).unwrap(), Opened::Part(list.into(), vec![false, true, false, false]));
}

#[test]
fn a_part_that_this_process_began_is_taken_as_it_is_known() {
    let (content, list, chunks) = elsewhere(3 * 1024);
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    disk.take_list(&content, &list).unwrap();
    disk.take_chunk(&content, 1, &list[1], &chunks[1]).unwrap();
    let part = |have: [bool; 3]| Opened::Part(list.clone().into(), have.to_vec());
    assert_eq!(disk.look(&content).unwrap(), part([false, true, false]));
    // Left, or taken away, it is looked at anew.
    let path = folder.path().join("staging/partial").join(format!("{}-{}", content.hash, content.chunk));
    fs::write(&path, chunks.concat()).unwrap();
    assert_eq!(disk.look(&content).unwrap(), part([false, true, false]));
    disk.leave(&content.hash);
    assert_eq!(disk.look(&content).unwrap(), part([true; 3]));
    fs::remove_file(&path).unwrap();
    assert_eq!(disk.look(&content).unwrap(), part([false; 3]));
}

#[test]
fn an_object_that_was_changed_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let content = import(&disk, b"right");
    disk.activate(&name("a"), &content).unwrap();
    // Whoever writes into the live file writes into the object.
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::write(folder.path().join("live/a"), b"wrong").unwrap();
    File::options().write(true).open(folder.path().join("live/a")).unwrap().set_modified(later).unwrap();
    assert_eq!(disk.read_chunk(&content, 0, &[]).unwrap(), None);
    assert!(!disk.has_object(&content).unwrap());
}

#[test]
fn a_version_gets_its_name_at_one_moment_and_folders_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, live) = (disk(folder.path()), folder.path().join("live"));
    let (one, two) = (import(&disk, b"one"), import(&disk, b"two"));
    let stamp = disk.activate(&name("a/b/c"), &one).unwrap();
    assert_eq!(fs::read(live.join("a/b/c")).unwrap(), b"one");
    assert!(disk.is_live(&name("a/b/c"), &one, Some(stamp)).unwrap());
    disk.activate(&name("a/b/c"), &one).unwrap();
    let stamp = disk.activate(&name("a/b/c"), &two).unwrap();
    assert_eq!(fs::read(live.join("a/b/c")).unwrap(), b"two");
    assert!(!disk.is_live(&name("a/b/c"), &one, None).unwrap());
    assert!(disk.is_live(&name("a/b/c"), &two, Some(stamp)).unwrap());
    assert!(disk.is_live(&name("a/b/c"), &two, None).unwrap(), "by its hash");
    disk.activate(&name("a/d"), &one).unwrap();
    disk.deactivate(&name("a/b/c")).unwrap();
    disk.deactivate(&name("a/b/c")).unwrap();
    assert!(live.join("a/d").exists() && !live.join("a/b").exists());
    // What is in the way stays.
    assert!(disk.activate(&name("a"), &one).is_err());
    assert!(disk.activate(&name("a/d/e"), &one).is_err());
    assert_eq!(fs::read_dir(folder.path().join("staging/tmp")).unwrap().count(), 0);
}

/// Whatever the umask is, and whatever was there before.
#[test]
fn nobody_else_reads_more_than_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |of: &str| fs::metadata(folder.path().join(of)).unwrap().permissions().mode() & 0o777;
    let open = |mode| Disk::open(folder.path().join("a/staging"), Some(folder.path().join("live")), mode).unwrap();
    let (content, list, chunks) = elsewhere(2000);
    let imported = {
        let disk = open(0o600);
        let imported = import(&disk, b"mine");
        disk.activate(&name("mine"), &imported).unwrap();
        disk.take_list(&content, &list).unwrap();
        assert_eq!(mode(&format!("a/staging/partial/{}-{}", content.hash, content.chunk)), 0o600);
        (0..).zip(&chunks).for_each(|(at, chunk)| disk.take_chunk(&content, at, &list[at as usize], chunk).unwrap());
        disk.finish(&content).unwrap();
        disk.activate(&name("theirs"), &content).unwrap();
        imported
    };
    assert_eq!((mode("live/mine"), mode("live/theirs")), (0o600, 0o600));
    for own in ["", "/tmp", "/objects", "/lists", "/partial", "/records"] {
        assert_eq!(mode(&format!("a/staging{own}")), 0o700, "{own}");
    }
    assert_ne!(mode("a"), 0o700, "what else is in it is nobody's affair");
    // It is said otherwise later.
    fs::set_permissions(folder.path().join("a/staging/objects"), fs::Permissions::from_mode(0o755)).unwrap();
    let disk = open(0o4444);
    disk.activate(&name("mine"), &imported).unwrap();
    assert_eq!((mode("live/mine"), mode("live/theirs"), mode("a/staging/objects")), (0o644, 0o600, 0o700));
    import(&disk, b"another");
    disk.activate(&name("another"), &import(&disk, b"another")).unwrap();
    assert_eq!(mode("live/another"), 0o644);
}

/// Row 25, seen from the disk: a link in `live` leads nowhere.
#[test]
fn links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, live, outside) = (disk(folder.path()), folder.path().join("live"), folder.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"mine").unwrap();
    symlink(&outside, live.join("dir")).unwrap();
    symlink(outside.join("file"), live.join("link")).unwrap();
    let content = import(&disk, b"theirs");
    assert!(disk.activate(&name("dir/file"), &content).is_err());
    assert!(disk.deactivate(&name("dir/file")).is_err());
    // The link itself is replaced.
    disk.activate(&name("link"), &content).unwrap();
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
    assert_eq!(fs::read(live.join("link")).unwrap(), b"theirs");
    let staging = folder.path().join("other");
    fs::create_dir(&staging).unwrap();
    symlink(&outside, staging.join("objects")).unwrap();
    assert!(Disk::open(staging, None, 0o600).is_err());
}

#[test]
fn what_nobody_needs_goes_and_what_is_fetched_stays_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let (used, unused) = (import(&disk, b"used"), import(&disk, b"unused"));
    let (content, list, _) = elsewhere(3000);
    disk.take_list(&content, &list).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let day = Duration::from_secs(24 * 3600);
    let needed = || [(used.hash, used.chunk)].into();
    disk.collect(needed, now + 23 * 3_600_000, day, 1 << 20).unwrap();
    assert!(disk.has_object(&used).unwrap() && !disk.has_object(&unused).unwrap());
    let count = |of: &str| fs::read_dir(folder.path().join("staging").join(of)).unwrap().count();
    assert_eq!((count("partial"), count("lists")), (1, 1));
    disk.collect(needed, now + 25 * 3_600_000, day, 1 << 20).unwrap();
    assert_eq!((count("partial"), count("lists")), (0, 0));
}

#[test]
fn parts_that_nobody_asks_for_take_a_bounded_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let now = SystemTime::now();
    let contents: Vec<_> = (0..5u64)
        .map(|number| {
            let (content, list, _) = elsewhere(3000 + number as usize);
            disk.take_list(&content, &list).unwrap();
            let path = folder.path().join(format!("staging/partial/{}-{}", content.hash, content.chunk));
            // The earlier, the older.
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(100 - number)).unwrap();
            (content, path)
        })
        .collect();
    let wall_ms = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    // The first is wanted; of the others two have room.
    let wanted = contents[0].0;
    let collect =
        |most| disk.collect(|| [(wanted.hash, wanted.chunk)].into(), wall_ms, Duration::from_secs(9999), most);
    collect(6100).unwrap();
    let there: Vec<_> = contents.iter().map(|(_, path)| path.exists()).collect();
    assert_eq!(there, [true, false, false, true, true]);
    assert_eq!(fs::read_dir(folder.path().join("staging/lists")).unwrap().count(), 3);
    // Somebody publishes here what was being fetched.
    let bytes: Vec<u8> = (0..3000).map(|at| (at % 251) as u8).collect();
    assert_eq!(import(&disk, &bytes), wanted);
    collect(6100).unwrap();
    assert!(!contents[0].1.exists() && disk.has_object(&wanted).unwrap());
}

#[test]
fn a_part_hides_no_whole() {
    let (content, list, chunks) = elsewhere(3000);
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    disk.take_list(&content, &list).unwrap();
    disk.take_chunk(&content, 1, &list[1], &chunks[1]).unwrap();
    // Published here as well, while it is fetched.
    assert_eq!(import(&disk, &chunks.concat()), content);
    assert_eq!(disk.read_chunk(&content, 0, &[]).unwrap().as_ref(), Some(&chunks[0]));
    // A request that was still under way.
    disk.take_list(&content, &list).unwrap();
    assert_eq!(disk.read_chunk(&content, 2, &[]).unwrap().as_ref(), Some(&chunks[2]));
    assert_eq!(disk.look(&content).unwrap(), Opened::Whole);
}

/// What is being fetched holds no descriptor, however much of it there is.
#[cfg(target_os = "linux")]
#[test]
fn parts_hold_no_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let open = || {
        let of = |entry: io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(of);
        open.filter(|path| path.starts_with(folder.path().join("staging/partial"))).count()
    };
    for number in 0..50 {
        let (content, list, chunks) = elsewhere(3000 + number);
        disk.take_list(&content, &list).unwrap();
        disk.take_chunk(&content, 0, &list[0], &chunks[0]).unwrap();
        disk.look(&content).unwrap();
    }
    assert_eq!(open(), 0);
}

/// A build that knows both is asked by the wrong one.
#[cfg(feature = "blake3")]
#[test]
fn whoever_asks_does_not_decide_what_is_dropped() {
    use crate::digest::Algorithm;
    let folder = tempfile::tempdir().unwrap();
    let content = import(&disk(folder.path()), b"whole");
    // After a restart nothing is known of it.
    let disk = disk(folder.path());
    let wrong = Content { algorithm: Algorithm::Blake3, ..content };
    assert_eq!(disk.read_chunk(&wrong, 0, &[]).unwrap(), None);
    assert_eq!(disk.read_chunk(&content, 0, &[]).unwrap().as_deref(), Some(&b"whole"[..]));
    assert!(disk.has_object(&content).unwrap());
}

#[test]
fn records_are_there_again_and_what_is_no_record_is_passed_over() {
    use crate::manifest::{Manifest, Record, Version};
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let content = import(&disk, b"x");
    let version = Version { time: 5, node: 7 };
    let current = Manifest { version, name: "a/b".into(), content: Some(content), signed: None };
    let record = Record { current: current.clone(), earlier: vec![] };
    let local = Local { record, live: Some((current, Some(Stamp::made(1, 2)))), stopped: None, removed_ms: Some(7) };
    disk.save(&local).unwrap();
    disk.save(&local).unwrap();
    fs::write(folder.path().join("staging/records/garbage"), b"\xFF\xFF").unwrap();
    assert_eq!(disk.records().unwrap(), [local]);
    disk.forget("a/b").unwrap();
    disk.forget("a/b").unwrap();
    assert_eq!(disk.records().unwrap(), []);
}
