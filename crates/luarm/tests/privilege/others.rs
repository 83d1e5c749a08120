//! Other processes: ptrace, their memory, their descriptors.

use super::{EPERM, Scene, errors, row, text};
use crate::support::NOBODY;

#[test]
fn reaching_into_another_process_is_told_done_or_refused() {
    let Some(scene) = Scene::set(&[]) else { return };
    let (roots, nobodys) = (scene.victim(0, 0), scene.victim(NOBODY, 0));
    let (root, nobody) = (roots.pid(), nobodys.pid());
    let at = &nobodys.memory;
    let done = scene.act(0, &format!(
        "attach {nobody} , peek {nobody} {at} , poke {nobody} {at} 7 , poke {nobody} {at} 8 , poke {nobody} {at} 9 , detach {nobody} , \
         readv {nobody} {at} , writev {nobody} {at} , writev {nobody} {at} , getfd {nobody} 0 , getfd {nobody} 2 , readv 0 , seize {nobody}"
    ));
    assert_eq!(errors(&done), [0; 13]);
    let one = |operation: &str, detail: &str| row(operation, 0, detail, Some(&nobodys));
    assert_eq!(
        scene.told(&done),
        [
            one("ptrace", "ATTACH"),
            one("ptrace", "POKEDATA"),
            one("process_vm_readv", "9 bytes"),
            one("process_vm_writev", "9 bytes"),
            one("pidfd_getfd", "descriptor 0"),
            one("pidfd_getfd", "descriptor 2"),
            one("ptrace", "SEIZE"),
        ]
    );
    // The victim's memory is really another one now.
    let refused = scene.act(NOBODY, &format!(
        "attach {root} , seize {root} , readv {root} {at} , writev {root} {at} , getfd {root} 0 , attach {root}"
    ));
    assert_eq!(errors(&refused), [EPERM; 6]);
    let one = |operation: &str, detail: &str| row(operation, EPERM, detail, Some(&roots));
    assert_eq!(
        scene.told(&refused),
        [
            one("ptrace", "ATTACH"),
            one("ptrace", "SEIZE"),
            one("process_vm_readv", ""),
            one("process_vm_writev", ""),
            one("pidfd_getfd", "descriptor 0"),
            one("ptrace", "ATTACH"),
        ]
    );
    for row in scene.rows(&refused) {
        assert_eq!((text(&row, "username"), text(&row, "targetusername")), ("nobody", "root"));
        assert_eq!(row["olduid"], row["uid"]);
    }
    scene.end();
}
