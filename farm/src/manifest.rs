//! What members tell each other of artefacts.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest};
use crate::limits::{Limits, MAX_CHUNK, MAX_CHUNKS, MIN_CHUNK};
use crate::name::ArtefactName;
use crate::trust::{Signed, Trust};

/// A record with more earlier versions is refused.
pub(crate) const MAX_EARLIER: usize = 16;
/// Beyond it no later version could be made.
const MAX_TIME: u64 = 1 << 63;

/// Which version of an artefact: the later one wins everywhere.
///
/// Its time is later than that of every version its publisher knew of, and otherwise close to his wall clock; so the order of versions
/// that did not know of each other is that of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Milliseconds since 1970 times 65,536, and a count.
    pub time: u64,
    /// Who published: random for each run of a farm.
    pub node: u64,
}

impl Version {
    /// Milliseconds since 1970, about.
    #[must_use]
    pub const fn wall_ms(self) -> u64 {
        self.time >> 16
    }

    /// A version later than `known`, made now.
    pub(crate) fn after(known: Option<u64>, wall_ms: u64, node: u64) -> Self {
        let wall = wall_ms.min(MAX_TIME >> 17) << 16;
        Self { time: known.map_or(wall, |known| wall.max(known.saturating_add(1))), node }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:016x}", self.time, self.node)
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let (time, node) = text.split_once('-').unwrap_or((text, ""));
        let read = |digits: &str| u64::from_str_radix(digits, 16);
        let parsed = read(time).and_then(|time| Ok(Self { time, node: read(node)? }));
        parsed.map_err(|_no_number: ParseIntError| ParseVersionError)
    }
}

/// A text is no [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is two hexadecimal numbers with a dash between")]
pub struct ParseVersionError;

/// What a version of an artefact consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) algorithm: Algorithm,
    /// Of the whole.
    pub(crate) hash: Digest,
    /// Bytes of each chunk but the last.
    pub(crate) chunk: u32,
    /// The hash of the hashes of all chunks, one after another.
    pub(crate) list: Digest,
}

impl Content {
    /// How many chunks it has.
    pub(crate) fn chunks(&self) -> u32 {
        // Checked to be few when it came.
        u32::try_from(self.size.div_ceil(u64::from(self.chunk.max(1)))).unwrap_or(u32::MAX)
    }

    /// Where a chunk begins, and how long it is; `None` if there is no such chunk.
    pub(crate) fn range(&self, index: u32) -> Option<(u64, usize)> {
        let start = u64::from(index).checked_mul(u64::from(self.chunk))?;
        let left = self.size.checked_sub(start).filter(|left| *left > 0)?;
        Some((start, usize::try_from(left.min(u64::from(self.chunk))).ok()?))
    }

    /// The hashes of its chunks, if the manifest alone says them.
    pub(crate) fn own_list(&self) -> Option<Vec<Digest>> {
        match self.chunks() {
            0 => Some(Vec::new()),
            1 => Some(vec![self.hash]),
            _ => None,
        }
    }

    /// Whether these are the hashes of its chunks.
    pub(crate) fn is_list(&self, list: &[Digest]) -> bool {
        u32::try_from(list.len()) == Ok(self.chunks()) && list_digest(self.algorithm, list) == self.list
    }

    pub(crate) fn fault(&self, limits: &Limits) -> Option<Refused> {
        if !self.algorithm.is_known() {
            return Some(Refused::Algorithm);
        }
        let few =
            (MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk) && self.size.div_ceil(u64::from(self.chunk)) <= MAX_CHUNKS;
        if !few {
            return Some(Refused::Malformed);
        }
        (self.size > limits.file).then_some(Refused::TooLarge)
    }
}

/// The hash of a list of hashes.
pub(crate) fn list_digest(algorithm: Algorithm, list: &[Digest]) -> Digest {
    let mut hasher = crate::digest::Hasher::new(algorithm);
    list.iter().for_each(|digest| hasher.update(digest.as_bytes()));
    hasher.finish()
}

/// One version of an artefact, or that it is removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: Version,
    /// As it came; a name once it is [checked](Self::check).
    pub(crate) name: String,
    /// `None`: it is removed.
    pub(crate) content: Option<Content>,
    pub(crate) signed: Option<Signed>,
}

/// Why what a peer says of an artefact is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its name is none, or another than it is kept under.
    #[error("its name is none")]
    Name,
    /// It is not signed, and it has to be.
    #[error("it is not signed")]
    Unsigned,
    /// Its signature is wrong, or by a key that is not trusted.
    #[error("its signature is wrong, or of a key that is not trusted")]
    Signature,
    /// Larger than [`Limits::file`].
    #[error("the file is larger than is taken here")]
    TooLarge,
    /// With it there would be more than [`Limits::total`].
    #[error("all files together would be larger than is taken here")]
    Total,
    /// With it there would be more than [`Limits::artefacts`].
    #[error("there are as many artefacts as are taken here")]
    TooMany,
    /// Hashed in a way that this member cannot compute.
    #[error("it is hashed in a way that is not known here")]
    Algorithm,
    /// Its numbers cannot be.
    #[error("its numbers cannot be")]
    Malformed,
}

impl Manifest {
    /// What a signature is over: all that is said, after a prefix that nothing else begins with.
    pub(crate) fn signed_bytes(&self, farm: &str) -> Vec<u8> {
        let mut bytes = b"tribes-farm manifest 1\0".to_vec();
        for text in [farm, &self.name] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.version.time.to_be_bytes());
        bytes.extend(self.version.node.to_be_bytes());
        match &self.content {
            None => bytes.push(0),
            Some(content) => {
                bytes.push(match content.algorithm {
                    Algorithm::Sha256 => 1,
                    Algorithm::Blake3 => 2,
                });
                bytes.extend(content.size.to_be_bytes());
                bytes.extend(content.hash.as_bytes());
                bytes.extend(content.chunk.to_be_bytes());
                bytes.extend(content.list.as_bytes());
            }
        }
        bytes
    }

    /// Whether it may be believed and taken; its name then.
    pub(crate) fn check(&self, farm: &str, trust: &Trust, limits: &Limits) -> Result<ArtefactName, Refused> {
        let name: ArtefactName = self.name.parse().map_err(|_no_name| Refused::Name)?;
        if self.version.time >= MAX_TIME {
            return Err(Refused::Malformed);
        }
        if let Some(fault) = self.content.as_ref().and_then(|content| content.fault(limits)) {
            return Err(fault);
        }
        trust.check(self.signed.as_ref(), || self.signed_bytes(farm))?;
        Ok(name)
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.as_ref().map_or(0, |content| content.size)
    }
}

/// What the group keeps of an artefact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) current: Manifest,
    /// Versions that were current before, the latest first.
    pub(crate) earlier: Vec<Manifest>,
}

impl Record {
    /// Whether it may be believed and taken, as what is kept under `key`.
    pub(crate) fn check(&self, key: &str, farm: &str, trust: &Trust, limits: &Limits) -> Result<ArtefactName, Refused> {
        if self.current.name != key || self.earlier.len() > MAX_EARLIER {
            return Err(Refused::Name);
        }
        let name = self.current.check(farm, trust, limits)?;
        let mut last = self.current.version;
        for manifest in &self.earlier {
            if manifest.name != key || manifest.version >= last || manifest.content.is_none() {
                return Err(Refused::Malformed);
            }
            manifest.check(farm, trust, limits)?;
            last = manifest.version;
        }
        Ok(name)
    }

    /// All versions, the latest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Manifest> {
        std::iter::once(&self.current).chain(&self.earlier)
    }

    /// With `current` before it, and at most `keep` of what was there before.
    pub(crate) fn followed_by(known: Option<&Self>, current: Manifest, keep: usize, unfit: Option<Version>) -> Self {
        let fit = |manifest: &&Manifest| manifest.content.is_some() && Some(manifest.version) != unfit;
        let known = known.into_iter().flat_map(Self::versions).filter(fit);
        let earlier = known.filter(|manifest| manifest.version < current.version).take(keep.min(MAX_EARLIER)).cloned();
        Self { earlier: earlier.collect(), current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{SigningKey, Trust};

    fn content(size: u64) -> Content {
        let hash = Algorithm::Sha256.digest(b"x");
        Content { size, algorithm: Algorithm::Sha256, hash, chunk: 10_240, list: hash }
    }

    fn manifest(time: u64) -> Manifest {
        let version = Version { time, node: 1 };
        Manifest { version, name: "a/b".into(), content: Some(content(5)), signed: None }
    }

    fn check(manifest: &Manifest) -> Result<ArtefactName, Refused> {
        manifest.check("farm", &Trust::Cluster, &Limits::default())
    }

    /// Row 21: Tomcat announces one chunk too many when the size is a multiple of the chunk's.
    #[test]
    fn there_are_as_many_chunks_as_hold_something() {
        for (size, chunks, last) in
            [(0, 0, None), (1, 1, Some(1)), (10_240, 1, Some(10_240)), (20_480, 2, Some(10_240)), (20_481, 3, Some(1))]
        {
            let content = content(size);
            assert_eq!(content.chunks(), chunks, "{size}");
            assert_eq!(chunks.checked_sub(1).and_then(|at| content.range(at)).map(|(_, len)| len), last, "{size}");
            assert_eq!(content.range(chunks), None);
            assert_eq!(content.range(u32::MAX), None);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(check(&manifest(7)).is_ok());
        let with = |change: fn(&mut Content)| {
            let mut manifest = manifest(7);
            manifest.content.as_mut().into_iter().for_each(change);
            check(&manifest)
        };
        assert_eq!(with(|content| content.chunk = 0), Err(Refused::Malformed));
        assert_eq!(with(|content| content.chunk = u32::MAX), Err(Refused::Malformed));
        assert_eq!(with(|content| content.size = u64::MAX), Err(Refused::Malformed));
        assert_eq!(with(|content| (content.chunk, content.size) = (MAX_CHUNK, 3 << 30)), Err(Refused::TooLarge));
        assert_eq!(check(&manifest(1 << 63)), Err(Refused::Malformed));
        assert_eq!(check(&Manifest { name: "../../x".into(), ..manifest(7) }), Err(Refused::Name));
        if !cfg!(feature = "blake3") {
            assert_eq!(with(|content| content.algorithm = Algorithm::Blake3), Err(Refused::Algorithm));
        }
    }

    #[test]
    fn each_thing_that_is_said_is_signed() {
        let key = SigningKey::from_seed([3; 32]);
        let trust = Trust::ed25519([key.public()]);
        let check = |manifest: &Manifest, farm: &str| manifest.check(farm, &trust, &Limits::default());
        let mut signed = manifest(7);
        assert_eq!(check(&signed, "farm"), Err(Refused::Unsigned));
        signed.signed = Some(key.sign(&signed.signed_bytes("farm")));
        assert!(check(&signed, "farm").is_ok());
        assert_eq!(check(&signed, "other"), Err(Refused::Signature));
        let other = Content { list: Algorithm::Sha256.digest(b"y"), ..content(5) };
        for changed in [
            Manifest { name: "a/c".into(), ..signed.clone() },
            Manifest { version: Version { time: 8, node: 1 }, ..signed.clone() },
            Manifest { version: Version { time: 7, node: 2 }, ..signed.clone() },
            Manifest { content: None, ..signed.clone() },
            Manifest { content: Some(content(6)), ..signed.clone() },
            Manifest { content: Some(other), ..signed.clone() },
            Manifest { content: Some(Content { chunk: 10_241, ..content(5) }), ..signed.clone() },
        ] {
            assert_eq!(check(&changed, "farm"), Err(Refused::Signature), "{changed:?}");
        }
        let stranger = SigningKey::from_seed([4; 32]);
        signed.signed = Some(stranger.sign(&signed.signed_bytes("farm")));
        assert_eq!(check(&signed, "farm"), Err(Refused::Signature));
    }

    #[test]
    fn a_record_keeps_some_earlier_versions_in_their_order() {
        let mut record = Record { current: manifest(1), earlier: Vec::new() };
        for time in 2..6 {
            record = Record::followed_by(Some(&record), manifest(time), 2, None);
        }
        let times = |record: &Record| record.versions().map(|manifest| manifest.version.time).collect::<Vec<_>>();
        assert_eq!(times(&record), [5, 4, 3]);
        let check = |record: &Record| record.check("a/b", "farm", &Trust::Cluster, &Limits::default());
        assert!(check(&record).is_ok());
        // What was found unfit is not gone back to.
        assert_eq!(
            times(&Record::followed_by(Some(&record), manifest(6), 2, Some(Version { time: 5, node: 1 }))),
            [6, 4, 3]
        );
        record.earlier.swap(0, 1);
        assert_eq!(check(&record), Err(Refused::Malformed));
        let many = (0..20).rev().map(manifest).collect();
        assert!(check(&Record { current: manifest(30), earlier: many }).is_err());
        assert!(check(&Record { current: Manifest { name: "b".into(), ..manifest(3) }, earlier: Vec::new() }).is_err());
    }

    #[test]
    fn versions_follow_what_is_known_whatever_the_clock_says() {
        let first = Version::after(None, 1000, 7);
        let second = Version::after(Some(first.time), 3, 8);
        assert!(second > first && second.wall_ms() == 1000);
        assert!(Version::after(Some(first.time), u64::MAX, 1).time < MAX_TIME);
        assert_eq!(second.to_string().parse(), Ok(second));
        for wrong in ["", "-", "1", "x-1", "1-1-1", "11111111111111111-1"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }
}
