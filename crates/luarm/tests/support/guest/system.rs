//! A guest with a whole system in it: this machine's own files under changes of the test's, and its systemd as the first process.
//!
//! QEMU shows the guest both directories (9p, only to read), the guest lays one over the other, and keeps what it writes in memory. Of the units none is started
//! but the one that obeys the test.

use std::{fs, path::Path};

use super::{Guest, Machine, TALK};

/// What runs first: it puts the system together and hands over to systemd.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do insmod "$module" || echo "cannot load $module"; done </modules
for share in host changed; do
    mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 $share /$share
done
mount -t tmpfs -o size=90% own /own
mkdir /own/upper /own/work
mount -t overlay -o lowerdir=/changed:/host,upperdir=/own/upper,workdir=/own/work root /system
cp /talk /system/etc/talk
cp /units/* /system/etc/systemd/system/
for directory in tmp var/tmp; do mount -t tmpfs -o mode=1777 tmp /system/$directory; done
mount --move /dev /system/dev
umount /proc
exec switch_root /system /lib/systemd/systemd --unit=talk.target
"#;

/// What systemd is to reach at the start: no unit of this machine's.
const UNITS: [(&str, &str); 2] = [
    (
        "talk.target",
        "[Unit]\nDescription=What the test asks for\nDefaultDependencies=no\nRequires=talk.service\nAfter=talk.service\n",
    ),
    (
        "talk.service",
        "[Unit]\nDescription=Obeys the test\nDefaultDependencies=no\n\n[Service]\nEnvironment=HOME=/root\n\
         ExecStart=/bin/sh /etc/talk\nStandardOutput=null\nStandardError=null\n",
    ),
];

impl Machine<'_> {
    /// Starts it with the files of this machine, and over them those of `changed`: what an overlay's upper directory holds, with what it takes away. Waits until
    /// its systemd takes commands; nothing else is started. [`Machine::files`] are not put into it. Only root can see all that is there.
    pub fn boot_system(&self, changed: &Path) -> Guest {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for name in ["bin", "proc", "dev", "host", "changed", "own", "system", "units"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("talk"), TALK).unwrap();
        for (name, text) in UNITS {
            fs::write(root.join("units").join(name), text).unwrap();
        }
        let modules = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];
        let initramfs = self.archive(directory.path(), &root, INIT, modules);
        let share = |name: &str, path: &Path| {
            [
                "-fsdev".to_owned(),
                // A comma in a path is written twice.
                format!(
                    "local,id={name},path={},security_model=none,readonly=on,multidevs=remap",
                    path.display().to_string().replace(',', ",,")
                ),
                "-device".to_owned(),
                format!("virtio-9p-pci,fsdev={name},mount_tag={name}"),
            ]
        };
        let shares = [share("host", Path::new("/")), share("changed", changed)].concat();
        self.start(directory, &initramfs, &shares)
    }
}
