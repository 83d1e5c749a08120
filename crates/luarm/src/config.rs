//! The configuration file: every option of the command line, under its long name.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use luarm_hunt::Format;
use luarm_store::StoreUrl;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::{canary::Every, log::Level, metrics::Address, sensor::Choice, size::Size};

/// Read where no other file is named, if it exists.
const DEFAULT_FILE: &str = "/etc/luarm/luarm.toml";
const DEFAULT_DATA: &str = "/var/lib/luarm";

/// What is wrong with the configuration file, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: `{text}`: {problem}", path.display())]
    Wrong { path: PathBuf, line: usize, text: String, problem: String },
}

/// Options as the file gives them; `None` where it is silent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    /// The file itself.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--store`
    #[serde(deserialize_with = "parsed")]
    pub store: Option<StoreUrl>,
    /// `--sensor`
    #[serde(deserialize_with = "parsed")]
    pub sensor: Option<Choice>,
    /// `--memory-limit`
    #[serde(deserialize_with = "parsed")]
    pub memory_limit: Option<MemoryLimit>,
    /// `--ring`
    #[serde(deserialize_with = "parsed")]
    pub ring: Option<RingSize>,
    /// `--files-quiet`
    pub files_quiet: Option<Vec<PathBuf>>,
    /// `--files-digest`
    #[serde(deserialize_with = "places")]
    pub files_digest: Option<Vec<DigestPlace>>,
    /// `--digest-limit`
    #[serde(deserialize_with = "parsed")]
    pub digest_limit: Option<DigestLimit>,
    /// `--timeout`
    #[serde(deserialize_with = "parsed")]
    pub timeout: Option<Timeout>,
    /// `--host`
    pub host: Option<String>,
    /// `--format`
    #[serde(deserialize_with = "parsed")]
    pub format: Option<Format>,
    /// `--listen`
    #[serde(deserialize_with = "parsed")]
    pub listen: Option<SocketAddr>,
    /// `--certificates`
    #[serde(deserialize_with = "parsed")]
    pub certificates: Option<Lifetime>,
    /// `--keep`
    #[serde(deserialize_with = "parsed")]
    pub keep: Option<Keep>,
    /// `--read-store`
    #[serde(deserialize_with = "parsed")]
    pub read_store: Option<StoreUrl>,
    /// `--host-store`
    #[serde(deserialize_with = "host_stores")]
    pub host_store: Option<Vec<HostStore>>,
    /// `--query-time`
    #[serde(deserialize_with = "parsed")]
    pub query_time: Option<Lifetime>,
    /// `--query-rows`
    pub query_rows: Option<u64>,
    /// `--queries`
    #[serde(deserialize_with = "parsed")]
    pub queries: Option<Queries>,
    /// `--server-key`
    pub server_key: Option<Vec<PathBuf>>,
    /// `--overdue`
    #[serde(deserialize_with = "parsed")]
    pub overdue: Option<Lifetime>,
    /// `--disk-reserve`
    #[serde(deserialize_with = "parsed")]
    pub disk_reserve: Option<Size>,
    /// `--unrecorded`
    #[serde(deserialize_with = "parsed")]
    pub unrecorded: Option<Unrecorded>,
    /// `--server`
    pub server: Option<Vec<String>>,
    /// `--spool-limit`
    #[serde(deserialize_with = "parsed")]
    pub spool_limit: Option<SpoolLimit>,
    /// `--metrics`
    #[serde(deserialize_with = "parsed")]
    pub metrics: Option<Address>,
    /// `--canary`
    #[serde(deserialize_with = "parsed")]
    pub canary: Option<Every>,
    /// `--log`
    #[serde(deserialize_with = "parsed")]
    pub log: Option<Level>,
}

/// The data directory and the store.
#[derive(Debug)]
pub(crate) struct Located {
    /// The data directory.
    pub data: PathBuf,
    /// The store.
    pub store: StoreUrl,
    /// What to add to a command for it to find this store.
    pub arguments: String,
}

impl Config {
    /// Reads `file`, or the default file if there is one.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        };
        let read: Result<Self, _> = toml::from_str(&text);
        read.map(|config| Self { file: Some(path.to_owned()), ..config }).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            ConfigError::Wrong {
                path: path.to_owned(),
                line: line + 1,
                text: text.lines().nth(line).unwrap_or_default().trim().to_owned(),
                problem: error.message().trim().replace('\n', ", "),
            }
        })
    }

    /// The command line comes first; a data directory named there also stands for its own store, whatever store the file names.
    pub(crate) fn locate(&self, data: Option<PathBuf>, store: Option<StoreUrl>) -> Located {
        let own = data.is_some();
        let data = data.or_else(|| self.data.clone()).unwrap_or_else(|| DEFAULT_DATA.into());
        let named = store.or_else(|| self.store.clone().filter(|_| !own));
        let arguments = match &named {
            Some(url) => format!(" --store {url}"),
            None if data == Path::new(DEFAULT_DATA) => String::new(),
            None => format!(" --data {}", data.display()),
        };
        let store = named.unwrap_or_else(|| StoreUrl::Sqlite(data.join("luarm.db")));
        Located { data, store, arguments }
    }
}

/// Rows that may wait in memory while the store cannot take them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryLimit(pub usize);

impl MemoryLimit {
    const LEAST: Size = Size(1 << 20);
    const MOST: Size = Size(64 << 30);
}

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(64 << 20)
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Size = text.parse()?;
        let fits = (Self::LEAST.0..=Self::MOST.0).contains(&size.0);
        let wrong = || format!("{size} is out of range: from {} to {}", Self::LEAST, Self::MOST);
        usize::try_from(size.0).ok().filter(|_| fits).map(Self).ok_or_else(wrong)
    }
}

/// The ring through which the kernel hands over events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingSize(pub u32);

impl RingSize {
    const LEAST: Size = Size(64 << 10);
    const MOST: Size = Size(1 << 30);
}

impl FromStr for RingSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Size = text.parse()?;
        let fits = (Self::LEAST.0..=Self::MOST.0).contains(&size.0) && size.0.is_power_of_two();
        let wrong = || format!("{size} is no power of two from {} to {}", Self::LEAST, Self::MOST);
        u32::try_from(size.0).ok().filter(|_| fits).map(Self).ok_or_else(wrong)
    }
}

/// Bytes that may wait for the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolLimit(pub u64);

impl SpoolLimit {
    const LEAST: Size = Size(1 << 20);
    const MOST: Size = Size(1 << 40);
}

impl Default for SpoolLimit {
    fn default() -> Self {
        Self(1 << 30)
    }
}

impl FromStr for SpoolLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Size = text.parse()?;
        if (Self::LEAST.0..=Self::MOST.0).contains(&size.0) {
            return Ok(Self(size.0));
        }
        Err(format!("{size} is out of range: from {} to {}", Self::LEAST, Self::MOST))
    }
}

/// How long something is good: `30s`, `15m`, `12h` or `90d`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime(pub Duration);

impl Lifetime {
    const DAY: u64 = 86_400;
    const MOST: u64 = 3_650 * Self::DAY;
    /// One hour.
    pub(crate) const HOUR: Self = Self(Duration::from_secs(3_600));
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(Duration::from_secs(90 * Self::DAY))
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", Self::DAY)];
        let seconds = units.iter().find_map(|(unit, factor)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*factor)
        });
        match seconds {
            Some(seconds @ 1..=Self::MOST) => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(format!("{text:?} is not a time from 1s to 3650d: write it like 30s, 15m, 12h or 90d")),
        }
    }
}

/// How long rows are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep(pub Duration);

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Lifetime>() {
            Ok(Lifetime(time)) if time.as_secs() >= Lifetime::DAY => Ok(Self(time)),
            _ => Err(format!("{text:?} is not a time from 1d to 3650d: write it like 90d")),
        }
    }
}

/// A host, and the store by an account that sees only it: `HOST=URL`.
#[derive(Debug, Clone)]
pub(crate) struct HostStore(pub (String, StoreUrl));

impl FromStr for HostStore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((host, url)) if !host.is_empty() => {
                let url = url.parse().map_err(|error: luarm_store::StoreError| error.to_string())?;
                Ok(Self((host.to_owned(), url)))
            }
            _ => Err("write HOST=URL: the name of a host, and a store".to_owned()),
        }
    }
}

/// How many questions of one analyst may be answered at the same time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries(pub usize);

impl FromStr for Queries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number @ 1..=16) => Ok(Self(number)),
            _ => Err(format!("{text:?} is not a number from 1 to 16")),
        }
    }
}

/// What becomes of questions that cannot be recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unrecorded {
    /// They are refused.
    #[default]
    Refuse,
    /// They are answered.
    Answer,
}

impl FromStr for Unrecorded {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "answer" => Ok(Self::Answer),
            _ => Err(format!("{text:?} is neither refuse nor answer")),
        }
    }
}

/// Where files are digested when they were changed: an absolute path, in which a component `*` stands for every directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DigestPlace(pub PathBuf);

impl FromStr for DigestPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let plain = |part: Component<'_>| match part {
            Component::RootDir => true,
            Component::Normal(name) => name == "*" || !name.as_encoded_bytes().contains(&b'*'),
            _ => false,
        };
        if !path.is_absolute() || !path.components().all(plain) {
            return Err(format!(
                "{text:?} is no absolute path of a directory or a file, without `..`, with * for whole components only"
            ));
        }
        Ok(Self(path.components().collect()))
    }
}

/// The largest file that is digested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DigestLimit(pub u64);

impl DigestLimit {
    const LEAST: Size = Size(4 << 10);
    const MOST: Size = Size(64 << 30);
}

impl FromStr for DigestLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Size = text.parse()?;
        let fits = (Self::LEAST.0..=Self::MOST.0).contains(&size.0);
        fits.then_some(Self(size.0))
            .ok_or_else(|| format!("{size} is out of range: from {} to {}", Self::LEAST, Self::MOST))
    }
}

/// Seconds to wait, with a fraction if need be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeout(pub Duration);

impl Timeout {
    const MOST: f64 = 86_400.0;
}

impl Default for Timeout {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a number of seconds from 0 to {}", Self::MOST);
        let seconds: f64 = text.parse().map_err(|_| wrong())?;
        if !(0.0..=Self::MOST).contains(&seconds) {
            return Err(wrong());
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// Reads places by the parser that the command line uses.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<DigestPlace>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect::<Result<_, _>>().map(Some)
}

/// Reads hosts and their stores by the parser that the command line uses.
fn host_stores<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<HostStore>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect::<Result<_, _>>().map(Some)
}

/// Reads a value by the parser that the command line uses; numbers need no quotes.
fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    struct Text;

    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a number")
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
            Ok(value.to_owned())
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
            Ok(value.to_string())
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
            Ok(value.to_string())
        }
    }

    let text = deserializer.deserialize_any(Text)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(content: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("luarm.toml");
        fs::write(&file, content).unwrap();
        Config::load(Some(&file)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_in_the_documentation_is_accepted_and_names_every_option() {
        let example = include_str!("../../../docs/luarm.toml");
        let spoken: String = example
            .lines()
            .filter_map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with(' ')))
            .fold(String::new(), |all, line| all + line + "\n");
        let config = load(&spoken).unwrap();
        let Config { data, store, sensor, memory_limit, ring, timeout, host, format, log, .. } = config;
        let Config { files_quiet, files_digest, digest_limit, canary, .. } = load(&spoken).unwrap();
        assert_eq!(canary, Some(Every::default()));
        let config = load(&spoken).unwrap();
        assert!(config.listen.is_some() && config.certificates.is_some());
        assert!(config.keep.is_some() && config.server_key.is_some());
        assert!(config.server.is_some() && config.spool_limit.is_some() && config.metrics.is_some());
        assert!(config.read_store.is_some() && config.host_store.is_some() && config.query_time.is_some());
        assert!(config.query_rows.is_some() && config.queries.is_some());
        assert!(data.is_some() && store.is_some() && sensor.is_some() && memory_limit.is_some());
        assert!(ring.is_some() && timeout.is_some() && host.is_some() && format.is_some() && log.is_some());
        let default: Vec<PathBuf> = luarm_sensor::ebpf::QUIET.iter().map(PathBuf::from).collect();
        assert_eq!(files_quiet, Some(default));
        let default = luarm_sensor::ebpf::EbpfConfig::default();
        let digested = files_digest.map(|places| places.into_iter().map(|place| place.0).collect());
        assert_eq!(digested, Some(default.digested));
        assert_eq!(digest_limit.map(|limit| limit.0), Some(default.digest_limit));
        load(example).unwrap();
    }

    #[test]
    fn an_error_names_file_line_key_and_value() {
        for (content, wanted) in [
            ("\ncolour = true\n", "luarm.toml, line 2: `colour = true`: unknown field `colour`"),
            ("sensor = \"magic\"", "line 1: `sensor = \"magic\"`: \"magic\" is not a sensor"),
            ("memory-limit = \"1KiB\"", "line 1: `memory-limit = \"1KiB\"`: 1KiB is out of range"),
            ("ring = \"3MiB\"", "line 1: `ring = \"3MiB\"`: 3MiB is no power of two from 64KiB to 1GiB"),
            ("timeout = -1", "line 1: `timeout = -1`: \"-1\" is not a number of seconds"),
            ("keep = \"12h\"", "line 1: `keep = \"12h\"`: \"12h\" is not a time from 1d to 3650d"),
            ("data = 7", "line 1: `data = 7`: invalid type"),
            ("data = \"/a\"\ndata = \"/b\"", "line 2: `data = \"/b\"`: duplicate key"),
            ("data", "line 1: `data`:"),
            ("files-digest = [\"etc\"]", "line 1: `files-digest = [\"etc\"]`: \"etc\" is no absolute path"),
            ("files-digest = [\"/etc/../root\"]", "\"/etc/../root\" is no absolute path"),
            ("files-digest = [\"/home/a*\"]", "with * for whole components only"),
            ("files-digest = \"/etc\"", "line 1: `files-digest = \"/etc\"`: invalid type"),
            ("digest-limit = \"1TiB\"", "line 1: `digest-limit = \"1TiB\"`: \"1TiB\" is not a size"),
            ("metrics = \"here\"", "`metrics = \"here\"`: \"here\" is neither ADDRESS:PORT"),
            ("canary = \"2d\"", "`canary = \"2d\"`: \"2d\" is neither a time from 1s to 1d nor off"),
            ("digest-limit = 0", "line 1: `digest-limit = 0`: 0 is out of range: from 4KiB to 64GiB"),
        ] {
            let error = load(content).unwrap_err();
            assert!(error.contains(wanted), "{error}\nshould contain {wanted}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_data_directory_on_the_command_line_stands_for_its_own_store() {
        let config = load("data = \"/a\"\nstore = \"sqlite:/b/x.db\"").unwrap();
        let located = config.locate(None, None);
        assert_eq!(
            (located.data.as_path(), located.store.to_string()),
            (Path::new("/a"), "sqlite:/b/x.db".into())
        );
        let located = config.locate(Some("/c".into()), None);
        assert_eq!(located.store.to_string(), "sqlite:/c/luarm.db");
        assert_eq!(located.arguments, " --data /c");
        assert_eq!(Config::default().locate(None, None).arguments, "");
    }
}
