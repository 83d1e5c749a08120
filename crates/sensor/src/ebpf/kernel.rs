//! What the running kernel has and how it names it, by its type information.

use std::collections::HashMap;

use libbpf_rs::btf::{
    Btf,
    types::{Enum, Func, Typedef},
};

use super::hooks::{Attach, CLASSES};

/// The kernel's choice, where kernels differ.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Programs whose tracepoint has another name here than in the object.
    pub(super) renamed: HashMap<&'static str, &'static str>,
    /// Programs for whose tracepoint this kernel lacks the feature, and which.
    pub(super) lacking: HashMap<&'static str, &'static str>,
    /// The flag of a request to io_uring that has rights of its own; `None` where the types do not tell.
    pub(super) request_creds: Option<u32>,
    /// Whether programs can say which type stands at an address (Linux 6.2).
    pub(super) can_cast: bool,
}

impl Kernel {
    /// Reads the type information. Without any, everything is as in the newest kernel, and loading says what is wrong.
    pub(super) fn running() -> Self {
        let Ok(types) = Btf::from_vmlinux() else { return Self::default() };
        let mut kernel = Self::default();
        for hook in CLASSES.iter().flat_map(|class| class.hooks) {
            let Attach::Traced(names, feature) = hook.attach else { continue };
            match names.iter().position(|name| has_tracepoint(&types, name)) {
                Some(0) => {}
                Some(older) => drop(kernel.renamed.insert(hook.program, names[older])),
                None => drop(kernel.lacking.insert(hook.program, feature)),
            }
        }
        let bit = types.type_by_kind::<Enum<'_>>().find_map(|kind| {
            kind.iter()
                .find(|member| member.name.is_some_and(|name| name == "REQ_F_CREDS_BIT"))
                .map(|member| member.value)
        });
        kernel.can_cast = types.type_by_name::<Func<'_>>("bpf_rdonly_cast").is_some();
        kernel.request_creds = bit.and_then(|bit| 1u32.checked_shl(u32::try_from(bit).ok()?));
        kernel
    }
}

/// Tracepoints with type information are functions' types of that name.
fn has_tracepoint(types: &Btf<'_>, name: &str) -> bool {
    types.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracepoint_is_found_by_its_name() {
        let Ok(types) = Btf::from_vmlinux() else { return };
        assert!(has_tracepoint(&types, "sched_process_exec"));
        assert!(!has_tracepoint(&types, "sched_process_never"));
        let kernel = Kernel::running();
        // A kernel that lacks the requests to io_uring lacks all of them.
        assert!([0, 3].contains(&kernel.lacking.len()), "{kernel:?}");
        assert_eq!(kernel.request_creds.is_some(), kernel.lacking.is_empty(), "{kernel:?}");
    }
}
