//! Heads of histories in files: those that are kept elsewhere, and those beside a store.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use luarm_chain::{
    Head, KeyFile,
    verify::{Report, Witness},
};

/// Bytes of the longest file that is read as a head.
const LONGEST: u64 = 64 << 10;

/// The heads in the directory.
pub(super) fn read(directory: &Path) -> anyhow::Result<Vec<Witness>> {
    let listed = fs::read_dir(directory)
        .with_context(|| format!("cannot read the directory {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in listed {
        let path =
            entry.with_context(|| format!("cannot read the directory {}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| head(path)).collect()
}

fn head(path: &Path) -> anyhow::Result<Witness> {
    let cannot = || format!("cannot use the head {}", path.display());
    let length = fs::metadata(path).with_context(cannot)?.len();
    if length > LONGEST {
        anyhow::bail!("cannot use the head {}: {length} bytes are too many for one", path.display());
    }
    let text = fs::read_to_string(path).with_context(cannot)?;
    let head = Head::read(&text).with_context(cannot)?;
    Witness::of(&head, path.display().to_string()).with_context(cannot)
}

/// What the data directory of a recorder or a server knows: the newest heads, and the last batch that the recorder's key was used for.
pub(super) fn own(data: &Path) -> anyhow::Result<Vec<Witness>> {
    let mut all = Vec::new();
    for directory in [data.join("heads"), data.join("server/heads")] {
        if directory.is_dir() {
            all.extend(read(&directory)?);
        }
    }
    let path = data.join("chain.key");
    let recorded = data.join("heads").is_dir();
    if let (true, [only]) = (recorded, &all[..])
        && let Some((batch, digest)) = sealed(&path)?
    {
        let origin = path.display().to_string();
        all.push(Witness { batch, digest, origin, ..only.clone() });
    }
    Ok(all)
}

fn sealed(path: &Path) -> anyhow::Result<Option<(i64, luarm_chain::Sha256)>> {
    match path.try_exists() {
        Ok(true) => Ok(KeyFile::witness(path)?),
        Ok(false) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look for {}", path.display())),
    }
}

/// Writes the heads of the hosts whose history is intact.
pub(super) fn export(report: &Report, directory: &Path) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    fs::create_dir_all(directory).with_context(|| cannot(directory))?;
    let broken: HashSet<i64> =
        report.findings.iter().filter(|finding| !finding.is_note).map(|finding| finding.number).collect();
    let mut names = HashSet::new();
    for host in &report.hosts {
        let Some(head) = host.head.as_ref().filter(|_| !broken.contains(&host.number)) else { continue };
        let mut name = Head::file_name(&host.name);
        if !names.insert(name.clone()) {
            // Two computers of one name.
            name = Head::file_name(&head.machineid);
        }
        let (path, fresh) = (directory.join(&name), directory.join(format!(".{name}.new")));
        fs::write(&fresh, head.text()).with_context(|| cannot(&fresh))?;
        fs::rename(&fresh, &path).with_context(|| cannot(&path))?;
    }
    Ok(())
}
