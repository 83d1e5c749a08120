//! The better rung for names of file operations: programs at functions of the kernel, which note its own names (`bpf/notes.h`). Where a kernel does not let
//! programs stand there, the class of files goes on with the process's words, and says so.

use std::collections::BTreeMap;

use libbpf_rs::btf::{Btf, types::Func};

use super::{
    empty,
    hooks::{Attach, Hook},
};

/// The function at which it is tried whether programs can stand at functions.
const TRIED: &str = "security_path_unlink";

/// A program of this rung.
#[derive(Debug)]
pub(super) struct Noting {
    pub(super) hook: Hook,
    /// The function of the kernel; none for a program that all others rest on.
    function: Option<&'static str>,
    /// The operations whose names are the process's words without it.
    operations: &'static [&'static str],
    /// Younger kernels alone have the function; older ones do the same by another.
    younger: bool,
}

const fn noting(
    program: &'static str,
    function: &'static str,
    operations: &'static [&'static str],
) -> Noting {
    let hook = Hook { program, attach: Attach::Function };
    Noting { hook, function: Some(function), operations, younger: false }
}

const fn younger(
    program: &'static str,
    function: &'static str,
    operations: &'static [&'static str],
) -> Noting {
    Noting { younger: true, ..noting(program, function, operations) }
}

/// The calls that await a note: those of bpf/filenames.h.
const CALLS: &[&str] = &[
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmodat",
    "fchmodat2",
    "fchmod",
    "chown",
    "lchown",
    "chown32",
    "lchown32",
    "fchownat",
    "fchown",
    "fchown32",
    "setxattr",
    "lsetxattr",
    "removexattr",
    "lremovexattr",
    "setxattrat",
    "removexattrat",
    "fsetxattr",
    "fremovexattr",
    "truncate",
    "truncate64",
    "ftruncate",
    "ftruncate64",
    "utimensat",
    "futimesat",
    "utimensat_time64",
    "utimes",
    "utime",
    "mount",
    "move_mount",
    "umount",
    "umount2",
];

/// Every program of the rung.
pub(super) const RUNG: &[Noting] = &[
    Noting {
        hook: Hook { program: "on_naming", attach: Attach::Entry(CALLS) },
        function: None,
        operations: &[],
        younger: false,
    },
    noting("on_path_unlink", TRIED, &["unlink"]),
    noting("on_path_rmdir", "security_path_rmdir", &["rmdir"]),
    noting("on_path_mkdir", "security_path_mkdir", &["mkdir"]),
    noting("on_path_mknod", "security_path_mknod", &["mknod"]),
    noting("on_path_symlink", "security_path_symlink", &["symlink"]),
    noting("on_path_link", "security_path_link", &["link"]),
    noting("on_path_rename", "security_path_rename", &["rename"]),
    noting("on_path_chmod", "security_path_chmod", &["chmod"]),
    noting("on_path_chown", "security_path_chown", &["chown"]),
    noting("on_path_truncate", "security_path_truncate", &["truncate"]),
    younger("on_descriptor_truncate", "security_file_truncate", &["truncate"]),
    noting("on_path_mount", "security_sb_mount", &["mount"]),
    noting("on_path_move_mount", "security_move_mount", &["mount"]),
    noting("on_path_umount", "security_sb_umount", &["umount"]),
    noting("on_want_write", "mnt_want_write", &["xattr", "utimes"]),
    noting("on_want_write_file", "mnt_want_write_file", &["xattr"]),
    noting("on_inode_setxattr", "security_inode_setxattr", &["xattr"]),
    noting("on_inode_removexattr", "security_inode_removexattr", &["xattr"]),
    younger("on_inode_set_acl", "security_inode_set_acl", &["xattr"]),
    younger("on_inode_remove_acl", "security_inode_remove_acl", &["xattr"]),
    noting("on_notify_change", "notify_change", &["utimes"]),
];

/// The programs that need not be loaded here, and why. Tried once, by an empty program.
pub(super) fn unusable() -> BTreeMap<String, String> {
    let all = |reason: String| RUNG.iter().map(|n| (n.hook.program.to_owned(), reason.clone())).collect();
    let kernel = match Btf::from_vmlinux() {
        Ok(kernel) => kernel,
        Err(e) => return all(format!("cannot read the kernel's type information: {e:#}")),
    };
    let number = |function| kernel.type_by_name::<Func<'_>>(function).map(|f| f.type_id().into());
    let Some(tried) = number(TRIED) else {
        return all(lacks(TRIED));
    };
    if let Err(e) = empty::stands_at(tried) {
        return all(format!("this kernel lets no program stand at its functions: {e}"));
    }
    RUNG.iter()
        .filter_map(|n| {
            let function = n.function.filter(|function| number(function).is_none())?;
            Some((n.hook.program.to_owned(), lacks(function)))
        })
        .collect()
}

fn lacks(function: &str) -> String {
    format!("this kernel has no {function}")
}

/// Whose names are told, in words for people.
pub(super) fn origin(refused: &BTreeMap<String, String>) -> String {
    let missing = |n: &&Noting| {
        let needed = |reason: &String| !n.younger || n.function.is_none_or(|f| *reason != lacks(f));
        refused.get(n.hook.program).is_some_and(needed)
    };
    let absent: Vec<&Noting> = RUNG.iter().filter(missing).collect();
    let Some(first) = absent.first() else {
        return "names are the kernel's own, but for what is refused before it is found".to_owned();
    };
    let reason = &refused[first.hook.program];
    if absent.iter().any(|n| n.function.is_none()) || absent.len() == RUNG.len() {
        return format!("names are the process's words ({reason})");
    }
    let mut operations: Vec<&str> = absent.iter().flat_map(|n| n.operations).copied().collect();
    operations.sort_unstable();
    operations.dedup();
    format!("names of {} are the process's words ({reason}), others the kernel's own", operations.join(", "))
}

/// Whether it is a program of this rung.
pub(super) fn notes(program: &str) -> bool {
    RUNG.iter().any(|n| n.hook.program == program)
}

/// The programs that stand at their functions.
pub(super) fn standing(refused: &BTreeMap<String, String>) -> impl Iterator<Item = &'static Hook> {
    RUNG.iter().map(|n| &n.hook).filter(|hook| !refused.contains_key(hook.program))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::hooks::{CLASSES, FILES},
        *,
    };

    fn refused(programs: &[(&str, &str)]) -> BTreeMap<String, String> {
        programs.iter().map(|(program, why)| ((*program).to_owned(), (*why).to_owned())).collect()
    }

    #[test]
    fn what_is_told_by_name_awaits_a_note() {
        let told = CLASSES.iter().filter(|c| c.name == FILES).flat_map(|c| c.hooks);
        let told: BTreeSet<&str> = told
            .filter(|h| h.program.starts_with("on_file_"))
            .flat_map(|h| match h.attach {
                Attach::Exit(calls) => calls,
                _ => panic!("{h:?}"),
            })
            .copied()
            .collect();
        assert_eq!(CALLS.iter().copied().collect::<BTreeSet<_>>(), told);
    }

    #[test]
    fn it_is_said_which_names_are_words() {
        assert!(origin(&refused(&[])).starts_with("names are the kernel's own"));
        let younger = refused(&[("on_inode_set_acl", "this kernel has no security_inode_set_acl")]);
        assert_eq!(origin(&younger), origin(&refused(&[])));
        assert_eq!(
            origin(&refused(&[("on_want_write", "no"), ("on_path_chmod", "why")])),
            "names of chmod, utimes, xattr are the process's words (why), others the kernel's own"
        );
        assert_eq!(origin(&refused(&[("on_naming", "why")])), "names are the process's words (why)");
        let all: Vec<_> = RUNG.iter().map(|n| (n.hook.program, "why")).collect();
        assert_eq!(origin(&refused(&all)), "names are the process's words (why)");
    }
}
